"""Pre- and postprocessing against numpy, for every form that the opsets since 7 have."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from core.errors import ModelError
from core.model.processing import (
    AxisSlice,
    InputProcessing,
    OutputProcessing,
    Processing,
    apply_processing,
    default_processing,
    load_processing,
    save_processing,
)
from core.model.reader import open_model

OPSETS = (7, 8, 9, 10, 11, 12, 13, 17, 18, 20)
Array = np.ndarray[Any, Any]
Save = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Writes a model with one input and one output out of a few nodes."""

    def write(
        nodes: list[onnx.NodeProto],
        dims: list[int | str],
        out_dims: list[int | str | None],
        *,
        opset: int,
        dtype: int = TensorProto.FLOAT,
        weights: dict[str, Array] | None = None,
    ) -> Path:
        graph = helper.make_graph(
            nodes,
            "test",
            [helper.make_tensor_value_info("image", dtype, dims)],
            [helper.make_tensor_value_info("out", dtype, out_dims)],
            [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
        model.ir_version = 8
        path = tmp_path / f"test{opset}.onnx"
        onnx.save(model, path)
        return path

    return write


def relu() -> list[onnx.NodeProto]:
    return [helper.make_node("Neg", ["image"], ["middle"], name="neg"), helper.make_node("Neg", ["middle"], ["out"])]


def resized(images: Array, height: int, width: int) -> Array:
    """Bilinear with aligned pixel centres; float64 (items, channels, h, w), written apart from the code under test."""
    before = images.shape[2:]

    def along(array: Array, axis: int, after: int) -> Array:
        had = before[axis - 2]
        where = (np.arange(after) + 0.5) * had / after - 0.5
        return np.apply_along_axis(lambda row: np.interp(where, np.arange(had), row), axis, array)

    return along(along(images.astype(np.float64), 2, height), 3, width)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize(("sent", "size"), [((11, 9), (6, 8)), ((4, 5), (6, 8)), ((6, 8), (6, 8)), ((7, 16), (6, 8))])
def test_pictures_are_resized_cropped_and_normalised(
    save: Save, opset: int, sent: tuple[int, int], size: tuple[int, int]
) -> None:
    model = open_model(save(relu(), ["batch", 3, 4, 5], ["batch", 3, 4, 5], opset=opset))
    step = InputProcessing(
        "image", "NHWC", "uint8", sent, size, (4, 5), 1 / 255, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)
    )
    processed = apply_processing(model, Processing((step,)))
    assert processed.inputs[0].name == "image"
    assert processed.inputs[0].dtype == "uint8"
    assert processed.inputs[0].dims == ("batch", *sent, 3)
    assert processed.batchable
    pixels = np.random.default_rng(opset).integers(0, 256, (3, *sent, 3), dtype=np.uint8)
    [out] = processed.reference(1)({"image": pixels})
    big = resized(pixels.transpose(0, 3, 1, 2), *size)
    top, left = (size[0] - 4) // 2, (size[1] - 5) // 2
    cropped = big[:, :, top : top + 4, left : left + 5] / 255
    mean, std = np.array([0.5, 0.4, 0.3]), np.array([0.2, 0.3, 0.4])
    np.testing.assert_allclose(out, (cropped - mean[:, None, None]) / std[:, None, None], atol=1e-4)


@pytest.mark.parametrize("opset", OPSETS)
def test_the_best_classes_come_out(save: Save, opset: int) -> None:
    rng = np.random.default_rng(1)
    weight = rng.standard_normal((12, 7), dtype=np.float32)
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["out"]),
    ]
    model = open_model(save(nodes, ["n", 3, 2, 2], ["n", 7], opset=opset, weights={"weight": weight}))
    after = OutputProcessing("out", softmax=True, argmax=True, top_k=3)
    processed = apply_processing(model, Processing(outputs=(after,)))
    assert [info.name for info in processed.outputs] == ["out/top_values", "out/top_indices", "out/argmax"]
    images = rng.standard_normal((5, 3, 2, 2), dtype=np.float32)
    values, indices, best = processed.reference(1)({"image": images})
    logits = images.reshape(5, 12) @ weight
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    order = np.argsort(-chances, axis=1)[:, :3]
    np.testing.assert_array_equal(indices, order)
    np.testing.assert_array_equal(best, order[:, 0])
    np.testing.assert_allclose(values, np.take_along_axis(chances, order, axis=1), rtol=1e-4)


@pytest.mark.parametrize("opset", [7, 12, 13, 20])
def test_softmax_of_three_axes_is_over_the_last(save: Save, opset: int) -> None:
    model = open_model(save(relu(), ["n", 3, 4], ["n", 3, 4], opset=opset))
    processed = apply_processing(model, Processing(outputs=(OutputProcessing("out", softmax=True),)))
    assert [info.name for info in processed.outputs] == ["out/softmax"]
    x = np.random.default_rng(0).standard_normal((2, 3, 4), dtype=np.float32)
    [out] = processed.reference(1)({"image": x})
    np.testing.assert_allclose(out, np.exp(x) / np.exp(x).sum(axis=2, keepdims=True), rtol=1e-5)


@pytest.mark.parametrize("opset", [7, 10, 17])
def test_a_part_is_sliced_out_and_scaled(save: Save, opset: int) -> None:
    model = open_model(save(relu(), ["n", 3], ["n", 3], opset=opset))
    step = InputProcessing("image", scale=2.0, mean=(1.0,), slices=(AxisSlice(1, 2, 5, 8),))
    processed = apply_processing(model, Processing((step,)))
    assert processed.inputs[0].dims == ("n", 8)
    x = np.random.default_rng(0).standard_normal((4, 8), dtype=np.float32)
    [out] = processed.reference(1)({"image": x})
    np.testing.assert_allclose(out, 2 * x[:, 2:5] - 1, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("layout", "size"), [("NCHW", None), ("NHWC", None), ("NCHW", (4, 5)), ("NHWC", (4, 5))])
def test_a_model_with_channels_last(save: Save, layout: str, size: tuple[int, int] | None) -> None:
    model = open_model(save(relu(), ["n", 4, 5, 3], ["n", 4, 5, 3], opset=17))
    sent = (4, 5) if size is None else (9, 7)
    step = InputProcessing("image", layout, "uint8", sent, size, mean=(1.0, 2.0, 3.0))  # type: ignore[arg-type]
    processed = apply_processing(model, Processing((step,)))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, *sent), dtype=np.uint8)
    feed = pixels if layout == "NCHW" else np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))
    [out] = processed.reference(1)({"image": feed})
    expected = resized(pixels, 4, 5).transpose(0, 2, 3, 1) - [1, 2, 3]
    np.testing.assert_allclose(out, expected, atol=1e-3)


def test_half_precision_is_normalised_in_float32(save: Save) -> None:
    path = save(relu(), ["n", 1, 4, 4], ["n", 1, 4, 4], opset=17, dtype=TensorProto.FLOAT16)
    processed = apply_processing(
        open_model(path), Processing((InputProcessing("image", "NHWC", "uint8", scale=1 / 255),))
    )
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 1), dtype=np.uint8)
    [out] = processed.reference(1)({"image": pixels})
    assert out.dtype == np.float16
    np.testing.assert_allclose(out, pixels.transpose(0, 3, 1, 2) / 255, rtol=1e-3)


def test_any_size_of_picture_stays_any(save: Save) -> None:
    model = open_model(save(relu(), ["n", 3, "h", "w"], ["n", 3, "h", "w"], opset=17))
    processed = apply_processing(model, Processing((InputProcessing("image", "NHWC", "uint8"),)))
    assert processed.inputs[0].dims == ("n", "h", "w", 3)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 6, 3), dtype=np.uint8)
    [out] = processed.reference(1)({"image": pixels})
    np.testing.assert_array_equal(out, pixels.transpose(0, 3, 1, 2))


def test_the_hash_tells_processings_apart_and_the_model_is_left_alone(save: Save) -> None:
    model = open_model(save(relu(), ["n", 3, 4, 5], ["n", 3, 4, 5], opset=17))
    before = [node.name for node in model.ir.graph]
    assert apply_processing(model, Processing()) is model
    one = apply_processing(model, Processing((InputProcessing("image", dtype="uint8"),)))
    other = apply_processing(model, Processing((InputProcessing("image", scale=2.0),)))
    assert len({model.sha256, one.sha256, other.sha256}) == 3
    assert [node.name for node in model.ir.graph] == before
    assert model.inputs[0].dtype == "float32"


@pytest.mark.parametrize(
    ("processing", "words"),
    [
        (Processing((InputProcessing("picture"),)), "no input 'picture'.*'image'"),
        (Processing(outputs=(OutputProcessing("logits", softmax=True),)), "no output 'logits'.*'out'"),
        (Processing((InputProcessing("image", crop=(6, 6)),)), "4 x 5.*6 x 6"),
        (Processing((InputProcessing("image", size=(3, 3), crop=(4, 5)),)), "crop of 4 x 5.*3 x 3"),
        (Processing((InputProcessing("image", size=(0, 5)),)), "no height or width"),
        (Processing((InputProcessing("image", mean=(1.0, 2.0)),)), "3 channels; 2 numbers"),
        (Processing((InputProcessing("image", std=(0.0,)),)), "must not be 0"),
        (Processing((InputProcessing("image", slices=(AxisSlice(7, 0, 1, 2),)),)), "axis 7"),
        (Processing((InputProcessing("image", slices=(AxisSlice(1, 0, 2, 9),)),)), "needs 3 elements"),
        (Processing(outputs=(OutputProcessing("out", top_k=9),)), "best 9.*5 classes"),
    ],
)
def test_what_does_not_fit_is_said(save: Save, processing: Processing, words: str) -> None:
    model = open_model(save(relu(), ["n", 3, 4, 5], ["n", 3, 4, 5], opset=17))
    with pytest.raises(ModelError, match=words):
        apply_processing(model, processing)


def test_no_pictures_no_layout(save: Save) -> None:
    model = open_model(save(relu(), ["n", 3], ["n", 3], opset=17))
    with pytest.raises(ModelError, match="takes no pictures"):
        apply_processing(model, Processing((InputProcessing("image", "NHWC"),)))


def test_a_guess_for_an_image_classifier_only(save: Save) -> None:
    weight = np.ones((12, 7), np.float32)
    nodes = [helper.make_node("Flatten", ["image"], ["flat"]), helper.make_node("MatMul", ["flat", "weight"], ["out"])]
    model = open_model(save(nodes, ["n", 3, 2, 2], ["n", 7], opset=17, weights={"weight": weight}))
    guess = default_processing(model)
    assert guess.inputs[0].dtype == "uint8"
    assert guess.inputs[0].mean == (0.485, 0.456, 0.406)
    assert guess.outputs == (OutputProcessing("out", softmax=True, top_k=5),)
    assert apply_processing(model, guess).inputs[0].dims == ("n", 2, 2, 3)
    assert default_processing(open_model(save(relu(), ["n", 9], ["n", 9], opset=17))) == Processing()


def test_a_choice_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SHARDBOARD_HOME", str(tmp_path))
    sha: Any = "ab" * 32
    assert load_processing(sha) is None
    choice = Processing(
        (InputProcessing("image", "NHWC", "uint8", crop=(4, 4), slices=(AxisSlice(1, 0, 2, 3),)),),
        (OutputProcessing("out", top_k=3, labels=("cat", "dog", "owl")),),
    )
    save_processing(sha, choice)
    assert load_processing(sha) == choice
    assert choice.labels == ("cat", "dog", "owl")
    with caplog.at_level(logging.WARNING):
        (tmp_path / "config" / "processing" / f"{sha}.json").write_text("{broken")
        assert load_processing(sha) is None
    assert "cannot be read" in caplog.text
