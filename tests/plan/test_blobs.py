from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import ModelError
from core.plan import blobs, weight_hashes, weight_slices
from core.plan.blobs import BlobSource, GraphBytes, TensorBytes, sha256_of
from core.plan.form import Sha256
from core.plan.program import Constant
from core.plan.weight_hashes import hash_weights
from core.plan.weight_slices import Take


def stored(path: Path, array: np.ndarray, offset: int = 0) -> ir.ExternalTensor:
    """``array`` in a data file, as a model's weight refers to it."""
    path.write_bytes(b"\0" * offset + array.tobytes())
    kind = ir.DataType.from_numpy(array.dtype)
    shape = ir.Shape(array.shape)
    return ir.ExternalTensor(path.name, offset, array.nbytes, kind, shape=shape, name="w", base_dir=path.parent)


@pytest.mark.parametrize("dtype", sorted(blobs.BLOB_DTYPES))
def test_bytes_are_raw_little_endian(dtype: str) -> None:
    array = np.arange(12).reshape(3, 4).astype(dtype)
    view = TensorBytes(ir.Tensor(array)).view()
    assert bytes(view) == array.astype(array.dtype.newbyteorder("<")).tobytes()


def test_a_weight_is_the_same_blob_wherever_it_is_kept(tmp_path: Path) -> None:
    array = np.random.default_rng(1).standard_normal((40, 30)).astype(np.float32)
    inside, outside = ir.Tensor(array), stored(tmp_path / "weights", array, offset=7)
    first, second = hash_weights([TensorBytes(inside), TensorBytes(outside)])
    assert first == second == hashlib.sha256(array.tobytes()).hexdigest()
    assert bytes(TensorBytes(outside).view()) == array.tobytes()


def test_hashes_of_large_files_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_hashes, "REMEMBERED_FILE_BYTES", 100)
    array = np.arange(100, dtype=np.float32)
    path = tmp_path / "weights"
    (first,) = hash_weights([TensorBytes(stored(path, array))])
    before = path.stat()
    monkeypatch.setattr(weight_hashes, "_hash", None)
    again = stored(path, array)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert hash_weights([TensorBytes(again)]) == [first]
    monkeypatch.undo()
    monkeypatch.setattr(weight_hashes, "REMEMBERED_FILE_BYTES", 100)
    changed = stored(path, array + 1)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))
    assert hash_weights([TensorBytes(changed)]) == [sha256_of((array + 1).tobytes())]


@st.composite
def slices(draw: st.DrawFn) -> tuple[tuple[int, ...], Take]:
    """A shape, and ranges of some of its axes, in any order."""
    shape = tuple(draw(st.lists(st.integers(1, 7), min_size=1, max_size=4)))
    take = []
    for axis in sorted(draw(st.sets(st.integers(0, len(shape) - 1), min_size=1))):
        ends = (
            st.tuples(st.integers(0, shape[axis]), st.integers(0, shape[axis]))
            .map(sorted)
            .filter(lambda r: r[0] < r[1])
        )
        take.append((axis, tuple((a, b) for a, b in draw(st.lists(ends, min_size=1, max_size=3)))))
    return shape, tuple(take)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("slices")


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    wanted=st.lists(slices(), min_size=1, max_size=3),
    dtype=st.sampled_from(["float32", "uint8", "int64"]),
    limits=st.sampled_from([(1 << 20, 1 << 16), (64, 8), (16, 64), (1, 1)]),
    offset=st.integers(0, 9),
)
def test_slices_of_a_weight_in_a_file(
    folder: Path, wanted: list[tuple[tuple[int, ...], Take]], dtype: str, limits: tuple[int, int], offset: int
) -> None:
    """However they are read, the bytes are those of the slice, from any place on; several are hashed together."""
    shape = wanted[0][0]
    array = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    tensor = stored(folder / "weights", array, offset)
    takes = [take for own, take in wanted if own == shape] + [((0, ((0, 1),)),), ((len(shape) - 1, ((0, 1),)),)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weight_slices, "PIECE_BYTES", limits[0])
        patch.setattr(weight_slices, "BLOCK_BYTES", limits[0])
        patch.setattr(weight_slices, "LONG_RUN_BYTES", limits[1])
        outside = [TensorBytes(tensor, take) for take in takes]
        inside = [TensorBytes(ir.Tensor(array), take) for take in takes]
        for source, copy, take, sha in zip(outside, inside, takes, hash_weights(outside), strict=True):
            expected = np.ascontiguousarray(Constant(ir.Tensor(array), take).numpy()).tobytes()
            assert source.nbytes == copy.nbytes == len(expected)
            assert hashlib.sha256(expected).hexdigest() == sha
            assert bytes(copy.view()) == bytes(source.view()) == expected
            for start, size in ((0, len(expected)), (len(expected) // 2, 3), (1, len(expected))):
                assert b"".join(source.pieces(start, size)) == expected[start : start + size]
        assert hash_weights(inside) == hash_weights(outside)


def test_hashes_of_slices_are_remembered_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_hashes, "REMEMBERED_FILE_BYTES", 100)
    array = np.arange(120, dtype=np.float32).reshape(10, 12)
    path = tmp_path / "weights"
    takes: list[Take] = [(), ((0, ((0, 5),)),), ((1, ((0, 6),)),), ((1, ((6, 12), (0, 6))),)]
    first = hash_weights([TensorBytes(stored(path, array), take) for take in takes])
    assert len(set(first)) == len(takes)
    before = path.stat()
    monkeypatch.setattr(weight_hashes, "_hash", None)
    again = stored(path, array)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert hash_weights([TensorBytes(again, take) for take in takes]) == first


def test_only_so_many_hashes_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_hashes, "REMEMBERED_FILE_BYTES", 100)
    monkeypatch.setattr(weight_hashes, "MOST_REMEMBERED", 3)
    tensor = stored(tmp_path / "weights", np.arange(100, dtype=np.float32))
    for i in range(8):
        hash_weights([TensorBytes(tensor, ((0, ((0, i + 1),)),))])
    (held,) = (weight_hashes.cache_dir() / "hashes").iterdir()
    assert len(msgspec.json.decode(held.read_bytes())["hashes"]) == 3


def test_a_data_file_that_is_gone(tmp_path: Path) -> None:
    tensor = stored(tmp_path / "weights", np.arange(100, dtype=np.float32))
    (tmp_path / "weights").unlink()
    with pytest.raises(ModelError, match="'w' cannot be read"):
        hash_weights([TensorBytes(tensor)])


def test_a_data_file_that_goes_after_compiling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_slices, "PIECE_BYTES", 64)
    array = np.arange(100, dtype=np.float32)
    tensor = stored(tmp_path / "weights", array, offset=3)
    (sha,) = hash_weights([TensorBytes(tensor)])
    source = BlobSource({sha: TensorBytes(tensor)})
    assert bytes(source.read(sha, 4, 200)) == array.tobytes()[4:204]
    assert bytes(source.read(sha, 400)) == b""
    (tmp_path / "weights").write_bytes(b"short")
    with pytest.raises(ModelError, match="ends too early"):
        source.read(sha)


def test_reading_in_pieces_from_several_threads() -> None:
    arrays = [np.random.default_rng(i).integers(0, 255, 50_000).astype(np.uint8) for i in range(4)]
    named = {sha256_of(array.tobytes()): array for array in arrays}
    source = BlobSource({sha: TensorBytes(ir.Tensor(array)) for sha, array in named.items()})

    def whole(sha: str) -> bytes:
        pieces = [source.read(Sha256(sha), offset, 999) for offset in range(0, 50_000, 999)]
        return b"".join(pieces)

    with ThreadPoolExecutor(4) as pool:
        for sha, data in zip(named, pool.map(whole, named), strict=True):
            assert sha256_of(data) == sha


def test_only_so_many_decoded_weights_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blobs, "RECENT_BYTES", 250)
    arrays = [np.full(100, i, np.uint8) for i in range(5)]
    source = BlobSource({sha256_of(a.tobytes()): TensorBytes(ir.Tensor(a)) for a in arrays})
    for sha in source.shas():
        source.read(sha)
    assert sum(view.nbytes for view in source._recent.values()) <= 250


def test_a_source_knows_what_it_holds() -> None:
    sha = sha256_of(b"graph")
    source = BlobSource({sha: GraphBytes(b"graph")})
    assert sha in source
    assert "other" not in source
    assert list(source) == [sha]
    assert len(source) == 1
    assert source.nbytes(sha) == 5
    assert bytes(source.read(sha, 2, 2)) == b"ap"
    assert bytes(source.read(sha, 5)) == b""
