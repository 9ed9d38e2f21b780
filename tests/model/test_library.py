"""The library: what it lists, what a person may type, and what it remembers."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from core.errors import ModelError
from core.model.library import RECENT_LIMIT, find_entry, library, open_entry, remember_model, resolve_model
from resources import resource_path


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SHARDBOARD_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_bundled_models_come_first_then_references() -> None:
    kinds = [entry.kind for entry in library()]
    assert kinds == ["bundled"] * 6 + ["reference"] * 4
    assert {entry.key for entry in library()} >= {"digits-cnn", "digits-mlp", "resnet50", "mobilenetv2", "gpt2"}
    for entry in library()[:6]:
        assert entry.path is not None
        assert entry.path.is_file()
        assert entry.samples is not None
        assert entry.samples.exists()


def test_a_key_opens_in_any_case() -> None:
    model, entry = resolve_model("Digits-CNN")
    assert entry is not None
    assert entry.key == model.name == "digits-cnn"


def test_a_path_opens_and_a_bundled_one_is_recognised(tmp_path: Path) -> None:
    source = resource_path("models", "rnn.onnx")
    copy = shutil.copy(source, tmp_path / "mine.onnx")
    model, entry = resolve_model(copy)
    assert (model.name, entry) == ("mine", None)
    assert resolve_model(source)[1] == find_entry("rnn")


def test_neither_key_nor_file_lists_the_keys() -> None:
    with pytest.raises(ModelError, match=r"no model 'vgg'.*digits-cnn.*resnet50.*gpt2"):
        resolve_model("vgg")
    with pytest.raises(ModelError, match="digits-cnn"):
        open_entry("vgg")
    with pytest.raises(ModelError, match="no file"):
        resolve_model("nowhere/model.onnx")


def test_a_reference_is_built_once(home: Path) -> None:
    shares: list[float] = []
    model = open_entry("mobilenetv2", shares.append)
    assert model.name == "mobilenetv2"
    assert shares == sorted(shares)
    assert shares[-1] > 0.95
    entry = find_entry("mobilenetv2")
    assert entry is not None
    assert entry.path is not None
    assert entry.path.is_relative_to(home.resolve())
    shares.clear()
    assert open_entry("mobilenetv2", shares.append).sha256 == model.sha256
    assert shares == []


def test_recent_models_are_remembered_newest_first(tmp_path: Path, home: Path) -> None:
    files = [tmp_path / f"m{index}.onnx" for index in range(RECENT_LIMIT + 2)]
    for file in files:
        shutil.copy(resource_path("models", "linear-regression.onnx"), file)
        remember_model(file)
    remember_model(files[5])
    remember_model(resource_path("models", "rnn.onnx"))
    recent = [entry for entry in library() if entry.kind == "recent"]
    assert len(recent) == RECENT_LIMIT
    assert [entry.title for entry in recent[:3]] == ["m5", "m13", "m12"]
    assert open_entry(recent[0].key).name == "m5"
    files[5].unlink()
    assert next(entry.title for entry in library() if entry.kind == "recent") == "m13"
    (home / "config" / "recent.json").write_text("no list")
    assert all(entry.kind != "recent" for entry in library())
