"""Sources: right items in right batches, and words for everything that does not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto
from PIL import Image

from core.errors import SourceError
from core.model.library import find_entry, open_entry
from core.model.processing import InputProcessing, Processing, apply_processing
from core.run.source import Batch, Source, is_pictures, open_source
from tests.run.models import negation


def joined(source: Source, size: int) -> dict[str, np.ndarray]:
    batches = list(source.batches(size))
    assert sum(batch.rows for batch in batches) == source.items
    assert [batch.first for batch in batches] == list(range(0, source.items, size))
    for batch in batches:
        assert all(type(a) is np.ndarray and a.flags.c_contiguous and a.dtype.isnative for a in batch.feed.values())
    return {name: np.concatenate([b.feed[name][: b.rows] for b in batches]) for name in batches[0].feed}


@pytest.mark.parametrize("size", [1, 3, 7, 20])
def test_npz_rows_in_order(tmp_path: Path, size: int) -> None:
    model = negation(tmp_path / "m.onnx", a=["n", 2], b=["n", 3])
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((7, 2)).astype(np.float32), rng.standard_normal((7, 3)).astype(np.float32)
    np.savez(tmp_path / "x.npz", a=np.asfortranarray(a), b=b.astype(">f4"))
    source = open_source(str(tmp_path / "x.npz"), model)
    assert source.items == 7
    for _ in range(2):
        found = joined(source, size)
        np.testing.assert_array_equal(found["a"], a)
        np.testing.assert_array_equal(found["b"], b)


def test_npy_is_mapped_not_read(tmp_path: Path) -> None:
    model = negation(tmp_path / "m.onnx", a=["n", 2])
    rows = np.arange(10, dtype=np.float32).reshape(5, 2)
    np.save(tmp_path / "x.npy", rows)
    np.testing.assert_array_equal(joined(open_source(str(tmp_path / "x.npy"), model), 2)["a"], rows)


def test_a_fixed_batch_is_filled_up(tmp_path: Path) -> None:
    model = negation(tmp_path / "m.onnx", a=[4, 2])
    assert model.fixed_batch == 4
    np.save(tmp_path / "x.npy", np.arange(8, dtype=np.float32).reshape(4, 2))
    rows = np.arange(12, dtype=np.float32).reshape(6, 2)
    np.save(tmp_path / "six.npy", rows)
    batches = list(open_source(str(tmp_path / "six.npy"), model).batches(4))
    assert [batch.rows for batch in batches] == [4, 2]
    np.testing.assert_array_equal(batches[1].feed["a"], rows[[4, 5, 5, 5]])


def test_a_model_without_item_axis_takes_a_feed_as_one_item(tmp_path: Path) -> None:
    model = negation(tmp_path / "m.onnx", a=["n", 2], b=[3])
    assert not model.batchable
    np.savez(tmp_path / "x.npz", a=np.ones((5, 2), np.float32), b=np.ones(3, np.float32))
    source = open_source(str(tmp_path / "x.npz"), model)
    [batch] = source.batches(8)
    assert (source.items, batch.rows, batch.whole, batch.feed["a"].shape) == (1, 1, True, (5, 2))
    assert [batch.rows for batch in open_source("random:3", model).batches(2)] == [1, 1, 1]


def test_random_items_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    model = negation(tmp_path / "m.onnx", a=["n", 2])
    ones, fives = (joined(open_source("random:150", model), size)["a"] for size in (1, 5))
    np.testing.assert_array_equal(ones, fives)
    np.testing.assert_array_equal(joined(open_source("random:9", model), 4)["a"], ones[:9])
    assert len(np.unique(ones[:64], axis=0)) == 64


@pytest.mark.parametrize("spec", ["random", "random:", "random:0", "random:-3", "random:many", "random:1.5"])
def test_random_needs_a_number(tmp_path: Path, spec: str) -> None:
    with pytest.raises(SourceError, match="random:100"):
        open_source(spec, negation(tmp_path / "m.onnx", a=["n", 2]))


def test_bundled_pictures_as_bytes_and_as_floats() -> None:
    entry = find_entry("digits-cnn")
    assert entry is not None
    model, spec = open_entry("digits-cnn"), str(entry.samples)
    assert is_pictures(spec)
    source = open_source(spec, apply_processing(model, entry.processing))
    first = next(source.batches(16))
    assert (source.items, first.names[:2]) == (60, ("000_label1.png", "001_label5.png"))
    assert (first.feed["image"].dtype, first.feed["image"].shape) == (np.uint8, (16, 8, 8, 1))
    plain = next(open_source(spec, model).batches(16)).feed["image"]
    assert plain.flags.c_contiguous
    np.testing.assert_allclose(plain, first.feed["image"].transpose(0, 3, 1, 2) / 255, rtol=1e-6)


def test_pictures_of_many_kinds_become_what_the_model_wants(tmp_path: Path) -> None:
    model = negation(tmp_path / "m.onnx", image=["n", 3, 20, 30])
    folder = tmp_path / "pictures"
    folder.mkdir()
    red = Image.new("RGB", (60, 40), (255, 0, 0))
    red.save(folder / "p10.jpg")
    red.convert("P").save(folder / "p2.gif")
    Image.new("L", (30, 20), 51).save(folder / "P1.png")
    Image.new("RGBA", (200, 20), (0, 0, 255, 128)).save(folder / "p3.webp", lossless=True)
    Image.fromarray(np.full((20, 30), 0x8000, np.uint16)).save(folder / "p20.tif")
    (folder / "notes.txt").write_text("not a picture")
    (folder / ".hidden.png").write_text("not a picture")
    processed = apply_processing(model, Processing((InputProcessing("image", "NHWC", "uint8"),)))
    [batch] = open_source(str(folder), processed).batches(8)
    assert batch.names == ("P1.png", "p2.gif", "p3.webp", "p10.jpg", "p20.tif")
    pixels = batch.feed["image"]
    assert pixels.shape == (5, 20, 30, 3)
    assert (pixels[0] == 51).all()
    np.testing.assert_allclose(pixels[1].mean(axis=(0, 1)), [255, 0, 0], atol=3)
    assert (pixels[2] == [0, 0, 255]).all()
    assert (pixels[4] == 128).all()
    one = open_source(str(folder / "P1.png"), processed)
    assert one.items == 1


def test_any_size_takes_the_first_pictures(tmp_path: Path) -> None:
    model = negation(tmp_path / "m.onnx", image=["n", 1, "h", "w"])
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.new("L", (12, 9)).save(folder / "a.png")
    Image.new("L", (7, 7)).save(folder / "b.png")
    assert joined(open_source(str(folder), model), 1)["image"].shape == (2, 1, 9, 12)


@pytest.mark.parametrize("content", [b"", b"no picture", None])
def test_an_unreadable_picture_is_named(tmp_path: Path, content: bytes | None) -> None:
    model = negation(tmp_path / "m.onnx", image=["n", 1, 90, 90])
    folder = tmp_path / "pictures"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (90, 90), np.uint8)
    Image.fromarray(noise).save(folder / "good.png")
    Image.fromarray(noise).save(folder / "half.png")
    half = folder / "half.png"
    half.write_bytes(half.read_bytes()[:2000] if content is None else content)
    with pytest.raises(SourceError, match=r"half\.png cannot be read"):
        list(open_source(str(folder), model).batches(2))


def test_folder_of_arrays(tmp_path: Path) -> None:
    model = negation(tmp_path / "m.onnx", a=["n", 2])
    folder = tmp_path / "arrays"
    folder.mkdir()
    rows = np.arange(12, dtype=np.float32).reshape(6, 2)
    np.save(folder / "x1.npy", rows[0])
    np.save(folder / "x2.npy", rows[1:4])
    np.save(folder / "x10.npy", rows[4:])
    source = open_source(str(folder), model)
    for size in (1, 2, 4, 6):
        np.testing.assert_array_equal(joined(source, size)["a"], rows)
    assert next(source.batches(5)).names == ("x1.npy", "x2.npy", "x2.npy", "x2.npy", "x10.npy")
    np.save(folder / "x3.npy", np.zeros(3, np.float32))
    with pytest.raises(SourceError, match=r"x3\.npy: Input 'a' must be"):
        open_source(str(folder), model)


def test_what_does_not_fit_is_said(tmp_path: Path) -> None:
    model = negation(tmp_path / "m.onnx", a=["n", 2])
    pair = negation(tmp_path / "m2.onnx", a=["n", 2], b=["n", 2])
    good = np.zeros((3, 2), np.float32)
    empty = tmp_path / "empty"
    empty.mkdir()
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    np.save(mixed / "a.npy", good)
    Image.new("L", (2, 2)).save(mixed / "b.png")
    np.savez(tmp_path / "named.npz", z=good)
    np.savez(tmp_path / "more.npz", a=good, z=good)
    np.savez(tmp_path / "pickled.npz", a=np.array([object()]))
    np.save(tmp_path / "dtype.npy", good.astype(np.float64))
    np.save(tmp_path / "shape.npy", np.zeros((3, 5), np.float32))
    np.save(tmp_path / "none.npy", np.zeros((0, 2), np.float32))
    np.save(tmp_path / "good.npy", good)
    (tmp_path / "text.npy").write_text("no array")
    (tmp_path / "text.npz").write_text("no archive")
    (tmp_path / "list.csv").write_text("1,2")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "named.npz").read_bytes()[:100])
    for spec, words in {
        "": "No input was given",
        "nowhere.npz": "no file or folder",
        "empty": "no pictures and no arrays",
        "mixed": "both pictures",
        "named.npz": "lacks 'a'",
        "more.npz": "no input 'z'",
        "pickled.npz": "numbers",
        "dtype.npy": "must be float32; the data is float64",
        "shape.npy": "'a' must be.*3x5",
        "text.npy": "not a readable .npy",
        "text.npz": "not a readable .npz",
        "cut.npz": "not a readable .npz",
        "list.csv": "none of the files that can be read",
        "mixed/b.png": "does not take pictures",
    }.items():
        with pytest.raises(SourceError, match=words):
            open_source(spec and str(tmp_path / spec), model)
    with pytest.raises(SourceError, match="2 inputs: 'a', 'b'"):
        open_source(str(tmp_path / "good.npy"), pair)
    with pytest.raises(SourceError):
        open_source(str(tmp_path / "none.npy"), model)
    with pytest.raises(SourceError, match="micro-batch of 0"):
        list(open_source("random:3", model).batches(0))


def test_whole_numbers_stay_in_range(tmp_path: Path) -> None:
    model = negation(tmp_path / "m.onnx", TensorProto.INT64, ids=["n", "length"])
    batch: Batch = next(open_source("random:4", model).batches(4))
    assert batch.feed["ids"].dtype == np.int64
    assert batch.feed["ids"].shape[0] == 4
