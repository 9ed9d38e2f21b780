"""Opening files: what works, and the words for what does not."""

from __future__ import annotations

import hashlib
import os
import random
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from core.errors import ModelError
from core.model.hashing import file_sha256
from core.model.reader import open_model
from tests.model.graphs import FLOAT, assert_same, mlp, opened, run_file, tensor, weight, write


@pytest.fixture(autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHARDBOARD_HOME", str(tmp_path_factory.mktemp("home")))


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        open_model(path)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_opens_a_model(tmp_path: Path) -> None:
    path = mlp(tmp_path)
    model = opened(path)
    assert (model.name, model.path, model.opset) == ("mlp", path, 17)
    assert [(i.name, i.dtype, i.dims, i.batched) for i in model.inputs] == [("x", "float32", ("n", 4), True)]
    assert [(o.name, o.dims) for o in model.outputs] == [("y", ("n", 3))]
    assert model.batchable
    assert model.fixed_batch is None
    feed = model.random_feed(2)
    assert_same({"y": model.reference(1)(feed)[0]}, run_file(path, feed))


def test_missing_file(tmp_path: Path) -> None:
    assert "There is no file" in refusal(tmp_path / "none.onnx")


def test_folder(tmp_path: Path) -> None:
    assert "is a folder" in refusal(tmp_path)


def test_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "empty.onnx"
    path.touch()
    assert "empty.onnx is empty" in refusal(path)


@pytest.mark.parametrize(
    "content",
    [
        b"just some text, no model at all\n",
        b"# a comment\nimport onnx\n",
        b'{"irVersion": 8}',
        b'\x89PNG\r\n\x1a\n' + bytes(100),
        b"PK\x03\x04" + bytes(60),
        bytes(64),
        b"\x08\x08",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    ],
)  # fmt: skip
def test_not_onnx(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "odd.onnx"
    path.write_bytes(content)
    words = refusal(path)
    assert "is not an ONNX model" in words or "holds no graph" in words


@pytest.mark.parametrize("share", [0.3, 0.5, 0.9, 0.999])
def test_truncated(tmp_path: Path, share: float) -> None:
    path = write(
        tmp_path,
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [tensor("x", ["n", 64])],
        [tensor("y", ["n", 64])],
        [weight("w", 64, 64)],
    )
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert "cut short" in refusal(path)


def external(folder: Path, *, location: str = "weights.bin", name: str = "model") -> Path:
    path = write(
        folder,
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [tensor("x", ["n", 64])],
        [tensor("y", ["n", 64])],
        [weight("w", 64, 64)],
        name=name,
    )
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location=location, size_threshold=0)
    return path


def test_external_data(tmp_path: Path) -> None:
    opened(external(tmp_path))


def test_external_data_in_a_subfolder(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    path = external(tmp_path, location="data/weights.bin")
    opened(path)


def test_missing_external_data_is_named(tmp_path: Path) -> None:
    path = external(tmp_path)
    (tmp_path / "weights.bin").unlink()
    assert "'weights.bin'" in refusal(path)


def test_truncated_external_data(tmp_path: Path) -> None:
    path = external(tmp_path)
    data = tmp_path / "weights.bin"
    data.write_bytes(data.read_bytes()[:100])
    words = refusal(path)
    assert "cut short" in words
    assert "'w'" in words


@pytest.mark.parametrize("location", ["../outside.bin", "/etc/hostname", "C:\\secret.bin", "a/../../outside.bin", ""])
def test_external_data_outside_the_folder_is_refused(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    (tmp_path / "outside.bin").write_bytes(bytes(64 * 64 * 4))
    path = external(folder)
    model = onnx.load(path, load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = location
    path.write_bytes(model.SerializeToString())
    assert "outside the model's folder" in refusal(path)


@pytest.mark.skipif(os.name == "nt", reason="needs symbolic links")
def test_external_data_by_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    path = external(folder)
    (folder / "weights.bin").rename(tmp_path / "outside.bin")
    (folder / "weights.bin").symlink_to(tmp_path / "outside.bin")
    assert "outside the model's folder" in refusal(path)


def one_node(folder: Path, op: str, *, domain: str = "", opset: int = 17, name: str = "odd") -> Path:
    node = helper.make_node(op, ["x"], ["y"], name="the-node", domain=domain)
    domains = {domain: 1} if domain else None
    return write(
        folder, [node], [tensor("x", ["n", 4])], [tensor("y", ["n", 4])], opset=opset, domains=domains, name=name
    )


def test_unknown_operator(tmp_path: Path) -> None:
    words = refusal(one_node(tmp_path, "Frobnicate"))
    assert "Frobnicate" in words
    assert "the-node" in words


def test_unknown_domain(tmp_path: Path) -> None:
    words = refusal(one_node(tmp_path, "Relu", domain="com.example"))
    assert "'com.example'" in words
    assert "the-node" in words


def test_unknown_operator_of_a_known_domain(tmp_path: Path) -> None:
    assert "Frobnicate" in refusal(one_node(tmp_path, "Frobnicate", domain="com.microsoft"))


def test_operator_of_a_later_set(tmp_path: Path) -> None:
    words = refusal(one_node(tmp_path, "Gelu", opset=17))
    assert "Gelu" in words
    assert "operator set 17" in words


def test_newer_operator_set(tmp_path: Path) -> None:
    words = refusal(one_node(tmp_path, "Relu", opset=999))
    assert "operator set 999" in words
    assert str(onnx.defs.onnx_opset_version()) in words


def test_every_operator_set_is_opened_or_refused_in_words(tmp_path: Path) -> None:
    for opset in range(7, onnx.defs.onnx_opset_version() + 1):
        path = one_node(tmp_path, "Relu", opset=opset)
        try:
            assert open_model(path).opset == opset
        except ModelError as error:
            newest = re.search(rf"operator set {opset}; onnxruntime [\d.]+ runs sets up to (\d+)", error.message)
            assert newest is not None
            assert 20 < int(newest[1]) < opset


def test_older_operator_set(tmp_path: Path) -> None:
    assert "operator set 6" in refusal(one_node(tmp_path, "Relu", opset=6))


def test_operator_that_the_runtime_lacks(tmp_path: Path) -> None:
    node = helper.make_node("Sin", ["x"], ["y"], name="the-node")
    dtype = TensorProto.BFLOAT16
    path = write(tmp_path, [node], [tensor("x", ["n"], dtype)], [tensor("y", ["n"], dtype)], name="bfloat")
    words = refusal(path)
    assert "Sin" in words
    assert "bfloat.onnx" in words


def test_wrong_types_are_refused_by_the_runtime(tmp_path: Path) -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="the-node")
    path = write(
        tmp_path, [node], [tensor("x", ["n", 4], TensorProto.INT64)], [tensor("y", ["n", 3])], [weight("w", 4, 3)]
    )
    assert "onnxruntime" in refusal(path)


def test_text_input(tmp_path: Path) -> None:
    node = helper.make_node("Identity", ["x"], ["y"])
    kind = TensorProto.STRING
    assert "holds text" in refusal(write(tmp_path, [node], [tensor("x", ["n"], kind)], [tensor("y", ["n"], kind)]))


def test_sequence_output(tmp_path: Path) -> None:
    node = helper.make_node("SequenceConstruct", ["x"], ["y"])
    output = helper.make_tensor_sequence_value_info("y", FLOAT, ["n", 4])
    assert "'y'" in refusal(write(tmp_path, [node], [tensor("x", ["n", 4])], [output]))


def test_hash_is_that_of_the_file_and_follows_changes(tmp_path: Path) -> None:
    path = mlp(tmp_path)
    first = open_model(path).sha256
    assert first == hashlib.sha256(path.read_bytes()).hexdigest()
    assert open_model(path).sha256 == first
    path.write_bytes(path.read_bytes() + b"\x32\x03doc")
    assert open_model(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest() != first


def test_hash_is_remembered(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"one")
    times = path.stat().st_mtime_ns
    first = file_sha256(path)
    path.write_bytes(b"two")
    os.utime(path, ns=(times, times))
    assert file_sha256(path) == first, "same time and size: not read again"


def test_hash_covers_external_data(tmp_path: Path) -> None:
    path = external(tmp_path)
    first = open_model(path).sha256
    data = tmp_path / "weights.bin"
    data.write_bytes(bytes(data.stat().st_size))
    assert open_model(path).sha256 != first


def test_weights_inside_the_file_are_not_read_on_opening(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [tensor("x", ["n", 64])],
        [tensor("y", ["n", 64])],
        [weight("w", 64, 64)],
    )
    model = opened(path)
    held = model.ir.graph.initializers["w"].const_value
    assert held is not None
    assert type(held).__name__ == "ExternalTensor"
    np.testing.assert_array_equal(held.numpy(), onnx.numpy_helper.to_array(weight("w", 64, 64)))


def test_a_value_that_nothing_makes(tmp_path: Path) -> None:
    node = helper.make_node("Add", ["x", "ghost"], ["y"], name="the-node")
    words = refusal(write(tmp_path, [node], [tensor("x", ["n", 4])], [tensor("y", ["n", 4])]))
    assert "'the-node' uses 'ghost'" in words


def test_an_output_that_nothing_makes(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    path = write(tmp_path, [node], [tensor("x", ["n", 4])], [tensor("z", ["n", 4])])
    assert "nothing makes its output 'z'" in refusal(path)


def test_a_cycle(tmp_path: Path) -> None:
    nodes = [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])]
    path = write(tmp_path, nodes, [tensor("x", ["n", 4])], [tensor("b", ["n", 4])])
    assert "is damaged" in refusal(path)


def test_damaged_files_are_refused_in_words(tmp_path: Path) -> None:
    """Bytes changed, lost and added at random: refused, or opened; never anything else."""
    data = mlp(tmp_path).read_bytes()
    generator = random.Random(5)
    refusals: list[str] = []
    for count in range(150):
        damaged = bytearray(data)
        place = generator.randrange(len(damaged))
        if count % 3 == 0:
            damaged[place] = generator.randrange(256)
        elif count % 3 == 1:
            del damaged[place]
        else:
            damaged.insert(place, generator.randrange(256))
        path = tmp_path / "damaged.onnx"
        path.write_bytes(damaged)
        try:
            open_model(path).cuts(2)
        except ModelError as error:
            refusals.append(error.message)
    assert len(refusals) > 20
    assert all("damaged.onnx" in words for words in refusals)
