"""The blob store on a real disk: transfers that stop and resume, damage, limits, and names that are not hashes."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.blobs import BlobStore
from agent.failures import AgentFailureError
from core.plan.form import Sha256

LIMIT = 10_000_000


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> BlobStore:
    return BlobStore(tmp_path / "blobs", LIMIT, clock=clock)


def name_of(data: bytes) -> Sha256:
    return Sha256(hashlib.sha256(data).hexdigest())


def blob(size: int, seed: int = 0) -> bytes:
    return (hashlib.sha256(seed.to_bytes(4, "big")).digest() * (size // 32 + 1))[:size]


def put(store: BlobStore, data: bytes, chunk: int = 1 << 20) -> Sha256:
    sha = name_of(data)
    for offset in range(0, max(len(data), 1), chunk):
        ack = store.append(sha, len(data), offset, data[offset : offset + chunk])
        assert ack.error == ""
    assert ack.received == -1
    return sha


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 100_000])
def test_a_blob_is_whole_when_its_last_chunk_came(store: BlobStore, size: int) -> None:
    data = blob(size)
    sha = put(store, data, chunk=4096)
    assert store.held(sha) == -1
    assert store.path(sha).read_bytes() == data
    assert store.path(sha) == store.root / sha[:2] / sha
    assert store.bytes_used == size
    assert not list(store.root.rglob("*.part"))


def test_a_blob_that_is_there_is_not_taken_again(store: BlobStore) -> None:
    data = blob(5000)
    sha = put(store, data)
    assert store.append(sha, len(data), 0, data[:10]).received == -1
    assert store.bytes_used == 5000


def test_chunks_may_be_memoryviews(store: BlobStore) -> None:
    data = blob(3000)
    assert store.append(name_of(data), 3000, 0, memoryview(data)).received == -1


def test_another_offset_changes_nothing_and_is_answered_with_what_is_held(store: BlobStore) -> None:
    data = blob(3000)
    sha = name_of(data)
    assert store.append(sha, 3000, 1000, data[1000:2000]).received == 0
    assert store.append(sha, 3000, 0, data[:1000]).received == 1000
    for offset in (0, 500, 1500, 3000):
        ack = store.append(sha, 3000, offset, data[offset : offset + 500])
        assert (ack.received, ack.error) == (1000, "")
    assert store.held(sha) == 1000
    assert store.append(sha, 3000, 1000, data[1000:]).received == -1


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 5000), min_size=1, max_size=6),
    order=st.randoms(use_true_random=False),
    chunk=st.integers(1, 2000),
)
def test_interleaved_transfers_do_not_mix(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], order: object, chunk: int
) -> None:
    store = BlobStore(tmp_path_factory.mktemp("blobs"), LIMIT)
    todo = {name_of(data): data for data in (blob(size, seed) for seed, size in enumerate(sizes))}
    names = sorted(todo)
    while unfinished := [name for name in names if store.held(name) != -1]:
        sha = order.choice(unfinished)  # type: ignore[attr-defined]
        data, offset = todo[sha], store.held(sha)
        assert store.append(sha, len(data), offset, data[offset : offset + chunk]).error == ""
    assert all(store.path(sha).read_bytes() == data for sha, data in todo.items())
    assert store.bytes_used == sum(len(data) for data in todo.values())


def test_a_transfer_goes_on_after_a_restart(store: BlobStore) -> None:
    data = blob(10_000)
    sha = name_of(data)
    store.append(sha, len(data), 0, data[:6000])
    again = BlobStore(store.root, LIMIT)
    held = again.held(sha)
    assert 5000 < held <= 6000
    assert again.append(sha, len(data), held, data[held:]).received == -1
    assert again.path(sha).read_bytes() == data
    assert again.bytes_used == len(data)


def test_a_process_lost_between_the_last_byte_and_the_rename_is_made_good(store: BlobStore) -> None:
    data = blob(5000)
    sha = name_of(data)
    (store.root / sha[:2]).mkdir()
    (store.root / sha[:2] / f"{sha}.part").write_bytes(data)
    again = BlobStore(store.root, LIMIT)
    held = again.held(sha)
    assert 0 <= held < len(data), "someone must have a reason to send the rest"
    assert again.append(sha, len(data), held, data[held:]).received == -1


def test_a_part_that_was_damaged_between_two_runs_is_dropped(store: BlobStore) -> None:
    data = blob(10_000)
    sha = name_of(data)
    store.append(sha, len(data), 0, data[:6000])
    part = store.root / sha[:2] / f"{sha}.part"
    part.write_bytes(b"x" + part.read_bytes()[1:])
    again = BlobStore(store.root, LIMIT)
    held = again.held(sha)
    ack = again.append(sha, len(data), held, data[held:])
    assert "damaged" in ack.error
    assert again.held(sha) == 0
    assert again.bytes_used == 0
    assert not part.exists()
    put(again, data)


def test_a_wrong_hash_is_dropped_and_said(store: BlobStore) -> None:
    sha = name_of(b"what was meant")
    ack = store.append(sha, 9, 0, b"what came")
    assert "damaged" in ack.error
    assert sha[:12] in ack.error
    assert (ack.received, store.held(sha), store.bytes_used) == (0, 0, 0)
    assert not [path for path in store.root.rglob("*") if path.is_file()]


def test_a_blob_damaged_on_disk_is_found_at_its_first_use_after_a_restart(store: BlobStore) -> None:
    data = blob(5000)
    sha = put(store, data)
    store.path(sha).write_bytes(b"\0" * 5000)
    again = BlobStore(store.root, LIMIT)
    with pytest.raises(AgentFailureError, match="damaged") as caught:
        again.path(sha)
    assert caught.value.code == "blob"
    assert again.held(sha) == 0
    put(again, data)
    assert again.path(sha).read_bytes() == data


def test_a_blob_that_someone_deleted_is_missed_not_believed(store: BlobStore) -> None:
    sha = put(store, blob(5000))
    shutil.rmtree(store.root)
    with pytest.raises(AgentFailureError, match="removed"):
        store.path(sha)
    put(store, blob(5000))


@pytest.mark.parametrize(
    "name",
    ["", "a" * 63, "a" * 65, "A" * 64, "g" * 64, "../" + "a" * 61, "a" * 64 + "\n", "..\\" + "a" * 61, "a" * 63 + "é"],
)
def test_only_hashes_become_file_names(store: BlobStore, name: str) -> None:
    sha = Sha256(name)
    assert "SHA-256" in store.append(sha, 4, 0, b"evil").error
    for use in (store.held, store.path, lambda sha: store.pin("d", [sha])):
        with pytest.raises(AgentFailureError, match="SHA-256"):
            use(sha)
    assert not list(store.root.iterdir())


@pytest.mark.parametrize(("nbytes", "offset"), [(4, 1), (3, 0), (-1, 0), (100, -4), (100, 97)])
def test_a_chunk_outside_its_blob_is_refused(store: BlobStore, nbytes: int, offset: int) -> None:
    ack = store.append(name_of(b"data"), nbytes, offset, b"data")
    assert "does not lie in a blob" in ack.error
    assert store.bytes_used == 0


def test_a_blob_that_is_not_here_says_what_to_do(store: BlobStore) -> None:
    data = blob(2000)
    store.append(name_of(data), 2000, 0, data[:500])
    for sha in (name_of(data), name_of(b"never seen")):
        with pytest.raises(AgentFailureError, match="deploy again"):
            store.path(sha)


def test_a_blob_larger_than_the_store_is_refused_with_figures(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, 1024)
    kept = put(store, blob(1000))
    ack = store.append(name_of(b"?"), 2048, 0, b"?")
    assert "2.00 KiB" in ack.error
    assert "1.00 KiB" in ack.error
    assert "--blob-limit" in ack.error
    assert store.held(kept) == -1, "nothing makes room for what cannot fit"


def test_the_least_recently_used_make_room(tmp_path: Path, clock: Clock) -> None:
    store = BlobStore(tmp_path, 3000, clock=clock)
    names = []
    for seed in range(3):
        clock.now += 100
        names.append(put(store, blob(1000, seed)))
    clock.now += 100
    store.path(names[0])
    clock.now += 100
    new = put(store, blob(1500, 9))
    assert [store.held(sha) for sha in (*names, new)] == [-1, 0, 0, -1]
    assert store.bytes_used == 2500


def test_last_use_survives_a_restart(tmp_path: Path, clock: Clock) -> None:
    store = BlobStore(tmp_path, 2000, clock=clock)
    first, second = put(store, blob(1000, 1)), put(store, blob(1000, 2))
    store.path(second)
    clock.now += 100
    store.path(first)
    again = BlobStore(tmp_path, 2000, clock=clock)
    put(again, blob(1000, 3))
    assert (again.held(first), again.held(second)) == (-1, 0)


def test_what_a_deployment_pins_stays(tmp_path: Path, clock: Clock) -> None:
    store = BlobStore(tmp_path, 2000, clock=clock)
    old, newer = put(store, blob(1000, 1)), put(store, blob(1000, 2))
    store.pin("one", [old])
    store.pin("two", [old])
    clock.now += 100
    third = put(store, blob(1000, 3))
    assert (store.held(old), store.held(newer)) == (-1, 0)
    store.pin("two", [third])
    ack = store.append(name_of(blob(1000, 4)), 1000, 0, blob(1000, 4))
    assert "store of this node is full" in ack.error
    assert "1000 B" in ack.error
    assert (store.held(old), store.held(third)) == (-1, -1)
    store.unpin("one")
    assert store.append(name_of(blob(1000, 4)), 1000, 0, blob(1000, 4)).error, "the other deployment still holds both"
    store.unpin("two")
    store.unpin("never pinned")
    assert store.append(name_of(blob(1000, 4)), 1000, 0, blob(1000, 4)).received == -1


def test_a_transfer_counts_at_its_full_size_from_its_first_byte(tmp_path: Path, clock: Clock) -> None:
    store = BlobStore(tmp_path, 1000, clock=clock)
    data = blob(800)
    store.append(name_of(data), 800, 0, data[:1])
    assert store.bytes_used == 800
    assert "full" in store.append(name_of(blob(300, 1)), 300, 0, b"x").error, "two transfers never push each other out"
    clock.now += 31
    assert put(store, blob(300, 1)), "one that nobody goes on with makes room"
    assert store.held(name_of(data)) == 0


def test_more_transfers_than_are_kept_open(store: BlobStore) -> None:
    blobs = {name_of(data): data for data in (blob(64, seed) for seed in range(300))}
    for sha, data in blobs.items():
        assert store.append(sha, 64, 0, data[:32]).received == 32
    for sha, data in blobs.items():
        assert store.held(sha) == 32
        assert store.append(sha, 64, 32, data[32:]).received == -1


def test_files_that_are_not_ours_stay(tmp_path: Path) -> None:
    foreign = [tmp_path / "notes.txt", tmp_path / "ab" / "notes.txt", tmp_path / "ab" / ("c" * 64)]
    (tmp_path / "ab").mkdir()
    for file in foreign:
        file.write_text("mine")
    store = BlobStore(tmp_path, 100)
    put(store, blob(100))
    assert store.bytes_used == 100
    assert all(file.read_text() == "mine" for file in foreign)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps mapped files, and access is not by mode")
def test_the_store_is_private(store: BlobStore) -> None:
    sha = put(store, blob(10))
    assert store.root.stat().st_mode & 0o077 == 0
    assert store.path(sha).parent.stat().st_mode & 0o077 == 0


def test_threads_may_ask_while_another_appends(store: BlobStore) -> None:
    blobs = {name_of(data): data for data in (blob(200_000, seed) for seed in range(8))}
    seen: list[str] = []

    def send(sha: Sha256, data: bytes) -> None:
        steps = range(0, len(data), 10_000)
        seen.extend(store.append(sha, len(data), at, data[at : at + 10_000]).error for at in steps)

    threads = [threading.Thread(target=send, args=pair) for pair in blobs.items()]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert all(-1 <= store.held(sha) <= 200_000 for sha in blobs)
    assert set(seen) == {""}
    assert all(store.path(sha).read_bytes() == data for sha, data in blobs.items())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("needs root on Linux to mount a small file system")
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], check=False, capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no small file system can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_disk_that_is_too_small_is_said_before_anything_is_sent(small_disk: Path) -> None:
    ack = BlobStore(small_disk / "blobs", LIMIT).append(name_of(b"?"), 1_000_000, 0, b"?")
    assert "disk of this node is full" in ack.error
    assert "977 KiB more" in ack.error


def test_a_disk_that_fills_up_on_the_way_is_said_and_left_with_room(small_disk: Path) -> None:
    store = BlobStore(small_disk / "blobs", LIMIT)
    data = blob(150_000)
    sha = name_of(data)
    assert store.append(sha, len(data), 0, data[:50_000]).received == 50_000
    (small_disk / "other").write_bytes(b"x" * 180_000)
    ack = store.append(sha, len(data), 50_000, data[50_000:])
    assert "disk of this node is full" in ack.error
    assert (store.held(sha), store.bytes_used) == (0, 0)
    (small_disk / "other").unlink()
    put(store, data)
