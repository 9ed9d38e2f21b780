"""The reference architectures: right shapes, finite outputs that differ by input, the same bytes each time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from core.errors import ModelError
from core.model.reader import open_model
from core.model.reference import REFERENCES, build


@pytest.mark.slow
@pytest.mark.parametrize("key", list(REFERENCES))
def test_finite_and_telling_inputs_apart(tmp_path: Path, key: str) -> None:
    path = build(key, tmp_path / f"{key}.onnx")
    data = path.with_name(path.name + ".data")
    assert path.stat().st_size < 200_000
    assert data.stat().st_size == pytest.approx(REFERENCES[key].nbytes, rel=0.02)
    assert sorted(tmp_path.iterdir()) == [path, data]
    model = open_model(path)
    assert model.batchable
    feed = model.random_feed(2, seed=1, dims=dict.fromkeys(model.default_dims(), 8))
    outputs = model.reference()(feed)
    for info, output in zip(model.outputs, outputs, strict=True):
        assert output.shape[0] == 2
        assert np.isfinite(output).all(), info.name
        assert np.abs(output[0] - output[1]).max() > 0.1 * output.std(), info.name


def test_text_models_say_how_long_a_usual_text_is(tmp_path: Path) -> None:
    model = open_model(build("bert-base", tmp_path / "m.onnx"))
    assert model.default_dims() == {"sequence": 128}
    assert {layer.name: layer.group for layer in model.layers(1)}["encoder.layer.3.output.dense"] == (
        "encoder/layer/layer.3/output"
    )


def test_the_same_bytes_each_time(tmp_path: Path) -> None:
    one, other = (build("mobilenetv2", tmp_path / name / "m.onnx") for name in ("a", "b"))
    assert one.read_bytes() == other.read_bytes()
    assert one.with_name("m.onnx.data").read_bytes() == other.with_name("m.onnx.data").read_bytes()


def test_a_build_that_is_stopped_leaves_nothing(tmp_path: Path) -> None:
    class StoppedError(Exception):
        pass

    def stop_after(share: float) -> Callable[[float], None]:
        def progress(done: float) -> None:
            if done > share:
                raise StoppedError

        return progress

    with pytest.raises(StoppedError):
        build("mobilenetv2", tmp_path / "m.onnx", stop_after(0.5))
    assert list(tmp_path.iterdir()) == []


def test_unknown_key_and_unwritable_place(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"'vgg'.*resnet50"):
        build("vgg", tmp_path / "m.onnx")
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match=r"could not be written.*free disk space"):
        build("mobilenetv2", tmp_path / "file" / "m.onnx")
