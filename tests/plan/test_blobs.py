from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from core.errors import ModelError
from core.plan import blobs
from core.plan.blobs import BlobSource, GraphBytes, TensorBytes, hash_tensors, sha256_of
from core.plan.form import Sha256


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
    first, second = hash_tensors([inside, outside])
    assert first == second == hashlib.sha256(array.tobytes()).hexdigest()
    assert bytes(TensorBytes(outside).view()) == array.tobytes()


def test_hashes_of_large_files_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blobs, "REMEMBERED_FILE_BYTES", 100)
    array = np.arange(100, dtype=np.float32)
    path = tmp_path / "weights"
    (first,) = hash_tensors([stored(path, array)])
    before = path.stat()
    monkeypatch.setattr(blobs, "_hash", None)
    again = stored(path, array)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert hash_tensors([again]) == [first]
    monkeypatch.undo()
    monkeypatch.setattr(blobs, "REMEMBERED_FILE_BYTES", 100)
    changed = stored(path, array + 1)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))
    assert hash_tensors([changed]) == [sha256_of((array + 1).tobytes())]


def test_a_data_file_that_is_gone(tmp_path: Path) -> None:
    tensor = stored(tmp_path / "weights", np.arange(100, dtype=np.float32))
    (tmp_path / "weights").unlink()
    with pytest.raises(ModelError, match="'w' cannot be read"):
        hash_tensors([tensor])


def test_a_data_file_that_goes_after_compiling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blobs, "PIECE_BYTES", 64)
    array = np.arange(100, dtype=np.float32)
    tensor = stored(tmp_path / "weights", array, offset=3)
    (sha,) = hash_tensors([tensor])
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
