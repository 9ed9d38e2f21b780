"""Measuring a link through real sockets, also with peers that do not do what they should."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from core.errors import Cancelled, ProtocolError, RemoteError, ShardboardError, UnreachableError
from core.plan.form import CLIENT
from core.wire import probing
from core.wire.frames import decode_header, encode_header
from core.wire.keys import new_keys
from core.wire.messages import Chunk, Probe, ProbeAck, ShardFailed
from core.wire.probing import SIZES, probe_link
from core.wire.sockets import Channel, Wire, endpoint

Answer = Callable[[Probe, int], list[bytes] | None]
"""What a peer sends back for a probe and the bytes that came with it."""


def honest(probe: Probe, _nbytes: int) -> list[bytes]:
    return [encode_header(ProbeAck(probe.probe, probe.number)), *([bytes(probe.answer)] if probe.answer else [])]


class Peer:
    """Answers probes by a function, after as long as a line of ``rate`` bytes/s would take for them."""

    def __init__(self, answer: Answer, rate: float | None = None) -> None:
        keys = new_keys()
        self.seen: list[tuple[Probe, int]] = []
        self._answer = answer
        self._rate = rate
        self._wire = Wire(keys)
        self._listener = self._wire.listen("127.0.0.1", 0, allow_any=True)
        self._client = Wire(new_keys())
        self.channel: Channel = self._client.connect(endpoint("127.0.0.1", self._listener.port), keys.public)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        poller = self._wire.poller()
        poller.register(self._listener)
        free = time.perf_counter()
        while not self._closing.is_set():
            poller.wait(0.02)
            while (received := self._listener.recv()) is not None:
                header = decode_header(received.frames[0])
                assert isinstance(header, Probe)
                nbytes = sum(frame.nbytes for frame in received.frames[1:])
                self.seen.append((header, nbytes))
                if self._rate is not None:
                    free = max(free, time.perf_counter()) + max(nbytes, header.answer) / self._rate
                    self._closing.wait(max(0.0, free - time.perf_counter()))
                answer = self._answer(header, nbytes)
                if answer is not None:
                    self._listener.send(received.sender, answer)
        self._listener.close()

    def close(self) -> None:
        self._closing.set()
        self._thread.join(5)
        self._client.close()
        self._wire.close()


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine may have other things to do than to connect."""
    monkeypatch.setattr(probing, "_CONNECT_SECONDS", 60.0)


@pytest.fixture
def connect() -> Iterator[Callable[..., Peer]]:
    peers: list[Peer] = []

    def make(answer: Answer = honest, rate: float | None = None) -> Peer:
        peers.append(Peer(answer, rate))
        return peers[-1]

    yield make
    for peer in peers:
        peer.close()


def never() -> bool:
    return False


@pytest.mark.parametrize("pull", [False, True])
def test_a_slow_line_is_measured_as_slow_as_it_is(connect: Callable[..., Peer], pull: bool) -> None:
    peer = connect(rate=20e6)
    found = probe_link(peer.channel, "p", SIZES, 1.0, pull=pull, stop=never)
    sizes = [sample.nbytes for sample in found.samples]
    assert sizes == sorted(sizes)
    assert SIZES[0] in sizes
    assert SIZES[-1] not in sizes  # it alone would take 0.8 s
    fastest = max(sample.bytes_per_s for sample in found.samples)
    assert 2e5 < fastest < 3 * 20e6, "as the line is; a busy machine is slower, and one without the line does 1e9"
    assert 0 < found.round_trip_s < 1
    # nothing is pushed where it was to be pulled, and the other way round
    assert max(nbytes for _, nbytes in peer.seen) == (64 if pull else sizes[-1])
    assert max(header.answer for header, _ in peer.seen) == (sizes[-1] if pull else 0)


def test_pacing_holds_for_what_is_sent(connect: Callable[..., Peer]) -> None:
    free = [0.0]

    def pace(nbytes: int, now: float) -> float:
        free[0] = max(free[0], now) + nbytes / 10e6
        return free[0]

    found = probe_link(connect().channel, "p", SIZES, 0.6, pace=pace, stop=never)
    # Where acknowledgements of the first quarter are looked at late, the others seem three times as fast.
    assert max(sample.bytes_per_s for sample in found.samples) < 3.1 * 10e6


def refusing(probe: Probe, _nbytes: int) -> list[bytes]:
    return [encode_header(ShardFailed("", 0, 0, 0, CLIENT, "field", "Field probe names none."))]


@pytest.mark.parametrize(
    ("answer", "pull", "error", "words"),
    [
        (refusing, False, RemoteError, "Field probe names none"),
        (lambda p, _: [encode_header(ProbeAck("other", p.number))], False, ProtocolError, "answered a probe"),
        (lambda p, _: [encode_header(ProbeAck("p", p.number + 1000))], False, ProtocolError, "answered a probe"),
        (lambda p, _: [encode_header(Chunk("a", 1, 0))], False, ProtocolError, "with Chunk"),
        (lambda p, _: [b"junk"], False, ProtocolError, "Bad data header"),
        (lambda p, _: [encode_header(ProbeAck("p", p.number)), b"more"], False, ProtocolError, "number of bytes"),
        (lambda p, _: [encode_header(ProbeAck("p", p.number))], True, ProtocolError, "number of bytes"),
    ],
)
def test_a_peer_that_breaks_the_rules_is_not_believed(
    connect: Callable[..., Peer], answer: Answer, pull: bool, error: type[ShardboardError], words: str
) -> None:
    with pytest.raises(error, match=words):
        probe_link(connect(answer).channel, "p", (1024,), 20.0, pull=pull, stop=never)


def test_a_link_that_is_too_slow_is_said(connect: Callable[..., Peer]) -> None:
    with pytest.raises(UnreachableError, match=r"too slow to be measured in 0\.3 s"):
        probe_link(connect(rate=2000).channel, "p", (16384,), 0.3, stop=never)


def test_another_node_than_it_should_be_ends_in_words_and_stopping_ends_at_once(connect: Callable[..., Peer]) -> None:
    peer, wire = connect(), Wire(new_keys())
    place = peer.channel.endpoint
    try:
        with pytest.raises(UnreachableError, match="cannot be reached: it is not the node it should be"):
            probe_link(wire.connect(place, new_keys().public), "p", (1024,), 1.0, stop=never)
        with pytest.raises(Cancelled):
            probe_link(wire.connect("tcp://127.0.0.1:9", new_keys().public), "p", (1024,), 1.0, stop=lambda: True)
    finally:
        wire.close()
