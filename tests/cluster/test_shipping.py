from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.cluster.shipping import CHUNK_BYTES, WINDOW, Need, Transfer
from core.errors import JobError, ProtocolError
from core.plan.form import Sha256
from core.wire.messages import Chunk, ChunkAck

A, B = Sha256("a" * 64), Sha256("b" * 64)
MIB = 1 << 20


class Store:
    """What a node's blob store answers, by the protocol's rules."""

    def __init__(self, *, damaged: dict[Sha256, int] | None = None) -> None:
        self.held: dict[Sha256, int] = {}
        self.damaged = damaged or {}

    def take(self, chunk: Chunk, size: int) -> ChunkAck:
        held = self.held.get(chunk.blob, 0)
        if held == -1:
            return ChunkAck(chunk.blob, -1, "")
        if chunk.offset == held:
            held += size
            if held == chunk.nbytes and self.damaged.get(chunk.blob, 0) > 0:
                self.damaged[chunk.blob] -= 1
                self.held[chunk.blob] = 0
                return ChunkAck(chunk.blob, 0, "its hash is wrong")
            self.held[chunk.blob] = -1 if held == chunk.nbytes else held
        return ChunkAck(chunk.blob, self.held.get(chunk.blob, 0), "")

    def offsets(self, blobs: tuple[Sha256, ...]) -> list[int]:
        return [self.held.get(blob, 0) for blob in blobs]


def send_all(transfer: Transfer, store: Store, most: int = 10_000) -> int:
    """Pump until done; returns the bytes sent."""
    way: deque[tuple[Chunk, int]] = deque()
    sent = 0
    for _ in range(most):
        while (piece := transfer.next_chunk()) is not None:
            way.append(piece)
            sent += piece[1]
            assert len(way) <= WINDOW
        if not way:
            break
        transfer.acknowledged(store.take(*way.popleft()))
    return sent


def test_everything_is_sent_once_in_a_bounded_window() -> None:
    transfer, store = Transfer("pi-1", [Need(A, 20 * MIB + 5), Need(B, 3)]), Store()
    transfer.resume(store.offsets(transfer.blobs))
    assert transfer.total_bytes == 20 * MIB + 8
    assert send_all(transfer, store) == 20 * MIB + 8
    assert transfer.done
    assert transfer.sent_bytes == transfer.total_bytes


def test_what_a_node_holds_is_not_sent() -> None:
    transfer, store = Transfer("pi-1", [Need(A, 10 * MIB), Need(B, 4 * MIB)]), Store()
    store.held = {A: -1, B: MIB}
    transfer.resume(store.offsets(transfer.blobs))
    assert (transfer.total_bytes, transfer.sent_bytes) == (4 * MIB, MIB)
    assert send_all(transfer, store) == 3 * MIB
    assert transfer.done


def test_a_node_that_holds_everything_is_done_at_once() -> None:
    transfer, store = Transfer("pi-1", [Need(A, 10 * MIB)]), Store()
    store.held = {A: -1}
    transfer.resume(store.offsets(transfer.blobs))
    assert transfer.done
    assert transfer.next_chunk() is None
    assert transfer.total_bytes == 0


def test_an_empty_blob_is_sent_too() -> None:
    transfer, store = Transfer("pi-1", [Need(A, 0)]), Store()
    transfer.resume([0])
    send_all(transfer, store)
    assert transfer.done


def test_a_damaged_blob_is_sent_once_more_and_then_given_up() -> None:
    transfer, store = Transfer("pi-1", [Need(A, 3 * MIB), Need(B, 2 * MIB)]), Store(damaged={A: 1})
    transfer.resume([0, 0])
    send_all(transfer, store)
    assert transfer.done
    transfer, store = Transfer("pi-1", [Need(A, 3 * MIB), Need(B, 2 * MIB)]), Store(damaged={A: 9})
    transfer.resume([0, 0])
    with pytest.raises(JobError, match="pi-1 did not take the weights: its hash is wrong"):
        send_all(transfer, store)


def test_after_a_broken_connection_it_goes_on_where_the_node_stopped() -> None:
    transfer, store = Transfer("pi-1", [Need(A, 12 * MIB)]), Store()
    transfer.resume([0])
    pieces = [piece for _ in range(5) if (piece := transfer.next_chunk())]
    for piece in pieces[:3]:
        transfer.acknowledged(store.take(*piece))
    transfer.resume(store.offsets(transfer.blobs))  # two pieces were lost on the way
    assert transfer.sent_bytes == 3 * MIB
    assert send_all(transfer, store) == 9 * MIB
    assert transfer.done
    assert transfer.total_bytes == 12 * MIB


@pytest.mark.parametrize("offsets", [[], [0, 0], [5], [-2]])
def test_an_answer_that_makes_no_sense_is_refused(offsets: list[int]) -> None:
    with pytest.raises(ProtocolError):
        Transfer("pi-1", [Need(A, 4)]).resume(offsets)


def test_an_acknowledgement_of_nothing_is_refused() -> None:
    transfer = Transfer("pi-1", [Need(A, 4)])
    transfer.resume([0])
    with pytest.raises(ProtocolError, match="not sent"):
        transfer.acknowledged(ChunkAck(A, 4, ""))
    transfer.next_chunk()
    with pytest.raises(ProtocolError, match="5 bytes of a blob of 4"):
        transfer.acknowledged(ChunkAck(A, 5, ""))


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 12 * CHUNK_BYTES), min_size=1, max_size=5),
    losses=st.lists(st.integers(0, 30), max_size=4),
    forgets=st.booleans(),
    damage=st.booleans(),
)
def test_whatever_breaks_in_between_the_node_ends_with_every_blob(
    sizes: list[int], losses: list[int], forgets: bool, damage: bool
) -> None:
    needs = [Need(Sha256(f"{i:064x}"), size) for i, size in enumerate(sizes)]
    transfer, store = Transfer("pi-1", needs), Store(damaged={needs[0].sha: 1} if damage else {})
    transfer.resume(store.offsets(transfer.blobs))
    for steps in losses:
        send_some(transfer, store, steps)
        if forgets and store.held:
            store.held[next(iter(store.held))] = 0
        transfer.resume(store.offsets(transfer.blobs))
    send_all(transfer, store)
    assert transfer.done
    assert set(store.held.values()) == {-1}


def send_some(transfer: Transfer, store: Store, steps: int) -> None:
    for _ in range(steps):
        piece = transfer.next_chunk()
        if piece is None:
            return
        transfer.acknowledged(store.take(*piece))
