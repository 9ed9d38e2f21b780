"""The bundled models do what they say, on the samples that ship with them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.model.library import find_entry, library, open_entry
from core.model.processing import apply_processing

BUNDLED = [entry for entry in library() if entry.kind == "bundled"]
MEGABYTE = 1_000_000


@pytest.mark.parametrize("entry", BUNDLED, ids=lambda entry: entry.key)
def test_small_named_and_batched(entry) -> None:
    assert entry.path.stat().st_size < MEGABYTE
    model = open_entry(entry.key)
    assert model.batchable
    assert model.fixed_batch is None
    assert model.inputs[0].dims[0] == "batch"
    layers = model.layers(4)
    assert len({layer.name for layer in layers}) == len(layers)
    assert all(layer.name for layer in layers)
    outputs = model.reference(1)(model.random_feed(3))
    assert all(output.shape[0] == 3 for output in outputs)


@pytest.mark.parametrize("key", ["digits-cnn", "digits-mlp"])
def test_digits_are_read_from_pixels(key: str) -> None:
    entry = find_entry(key)
    assert entry is not None
    assert entry.samples is not None
    files = sorted(entry.samples.glob("*.png"))
    assert len(files) == 60
    pixels = np.stack([np.asarray(Image.open(file)) for file in files])[..., None]
    labels = np.array([_label(file) for file in files])
    model = apply_processing(open_entry(key), entry.processing)
    chances, classes = model.reference(1)({"image": pixels})
    assert (classes[:, 0] == labels).mean() > 0.97
    assert chances.shape == classes.shape == (60, 3)
    assert entry.labels[classes[0, 0]] == str(labels[0])


def _label(file: Path) -> int:
    found = re.fullmatch(r"\d+_label(\d)", file.stem)
    assert found is not None
    return int(found.group(1))


@pytest.mark.parametrize("key", ["rnn", "lstm", "logistic-regression"])
def test_samples_are_classified(key: str) -> None:
    entry = find_entry(key)
    assert entry is not None
    assert entry.samples is not None
    with np.load(entry.samples) as feed:
        model = apply_processing(open_entry(key), entry.processing)
        _, classes = model.reference(1)(dict(feed))
    expected = np.load(entry.samples.with_suffix(".expected.npy"))
    assert (classes[:, 0] == expected).mean() > 0.95


def test_progression_is_predicted_better_than_by_its_mean() -> None:
    entry = find_entry("linear-regression")
    assert entry is not None
    assert entry.samples is not None
    with np.load(entry.samples) as feed:
        [predicted] = open_entry(entry.key).reference(1)(dict(feed))
    expected = np.load(entry.samples.with_suffix(".expected.npy"))
    unexplained = ((predicted[:, 0] - expected) ** 2).sum() / ((expected - expected.mean()) ** 2).sum()
    assert unexplained < 0.55


def test_the_digits_scripts_make_what_is_bundled(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="training needs PyTorch: pip install 'shardboard[training]'")
    pytest.importorskip("sklearn", reason="training needs scikit-learn: pip install 'shardboard[training]'")
    from resources.training.classifier import digits
    from resources.training.digits import write_samples

    data = digits()
    write_samples(tmp_path, data.test_images, data.test_labels)
    entry = find_entry("digits-cnn")
    assert entry is not None
    assert entry.samples is not None
    made = {file.name: np.asarray(Image.open(file)).tobytes() for file in tmp_path.glob("*.png")}
    bundled = {file.name: np.asarray(Image.open(file)).tobytes() for file in entry.samples.glob("*.png")}
    assert made == bundled
    assert not {row.tobytes() for row in data.train_images} & set(bundled.values())
