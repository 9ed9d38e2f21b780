"""Measures a link through a data connection: the round trip of a small message, then streams of messages by size.

The other side only acknowledges (see ``Probe``). A stream keeps so much in flight that its messages overlap, as those
of a running model do, and no more than the link carries in a moment, so that it can always be ended soon. The thread
that calls waits for the network; nothing here knows who asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import quantiles
from typing import Final

from core.errors import Cancelled, ProtocolError, RemoteError, UnreachableError
from core.wire.frames import decode_header, encode_header
from core.wire.messages import LinkProbed, LinkSample, Probe, ProbeAck, ShardFailed
from core.wire.sockets import Channel

SIZES: Final = tuple(1024 * 4**step for step in range(8))
"""1 KiB to 16 MiB."""
LARGEST: Final = SIZES[-1]
MOST_SECONDS: Final = 10.0
"""For one direction of one link."""
SMALL: Final = 64
"""Bytes of the message whose round trip counts."""

_TRIPS: Final = 40
_FIRST_TRIPS: Final = 5
"""They make the connection, and are not counted."""
_TRIPS_SHARE: Final = 0.2
"""Of all seconds, for the round trips."""
_STREAM_SECONDS: Final = 0.06
"""How long messages of one size are sent at least."""
_STREAM_SHARE: Final = 1 / 12
_FEW: Final = 6
"""Messages that make a stream; so many are sent where that takes a little longer only:"""
_FEW_PATIENCE: Final = 3.0
_IN_FLIGHT_SECONDS: Final = 0.1
_LONG_SECONDS: Final = 0.25
"""Messages that take longer are sent one by one."""
_MOST_IN_FLIGHT: Final = 64
_FIRST_WINDOW: Final = 16
_STREAM_WINDOW: Final = 4
_TICK_SECONDS: Final = 0.05
_CONNECT_SECONDS: Final = 3.0

Pace = Callable[[int, float], float]
"""When so many bytes handed over now may leave (``time.perf_counter``); called once for each message."""


def probe_link(
    channel: Channel,
    probe: str,
    sizes: Sequence[int],
    seconds: float,
    *,
    pull: bool = False,
    pace: Pace | None = None,
    stop: Callable[[], bool],
) -> LinkProbed:
    """The link from here to where ``channel`` leads; with ``pull``, the one from there to here.

    Takes ``seconds`` at most, and up to 3 s to connect. Raises UnreachableError (nobody there, or too slow for the
    smallest size), RemoteError (refused there), ProtocolError, Cancelled (``stop`` said so).
    """
    return _Probing(channel, probe, pull, pace, stop).all(sizes, seconds)


def stream_link(
    channel: Channel, probe: str, size: int, seconds: float, *, pull: bool = False, stop: Callable[[], bool]
) -> list[float]:
    """When (``time.perf_counter``) messages of ``size`` came through that were sent one after the other for so long.

    Takes up to 3 s more to connect. Raises as ``probe_link``.
    """
    return _Probing(channel, probe, pull, None, stop).arrivals(size, seconds)


class _Probing:
    def __init__(self, channel: Channel, probe: str, pull: bool, pace: Pace | None, stop: Callable[[], bool]) -> None:
        self._channel = channel
        self._probe = probe
        self._pull = pull
        self._pace = pace
        self._stop = stop
        self._number = 0
        self._first = 1
        """Acknowledgements of lower numbers belong to a stream that was given up."""

    def all(self, sizes: Sequence[int], seconds: float) -> LinkProbed:
        self._connect()
        end = time.perf_counter() + seconds
        round_trip = self._round_trip(time.perf_counter() + _TRIPS_SHARE * seconds)
        samples: list[LinkSample] = []
        rate: float | None = None
        for size in sorted(sizes):
            now = time.perf_counter()
            if rate is not None and now + size / rate > end:
                break
            rate = self._stream(size, rate, round_trip, min(_STREAM_SECONDS, _STREAM_SHARE * seconds), end)
            if rate is None:
                break
            samples.append(LinkSample(size, rate))
        if not samples:
            raise UnreachableError(f"The link is too slow to be measured in {seconds:g} s.")
        return LinkProbed(round_trip, tuple(samples))

    def arrivals(self, size: int, seconds: float) -> list[float]:
        self._connect()
        payload, answer = (b"", size) if self._pull else (bytes(size), 0)
        self._first = self._number + 1
        sent, found = 0, list[float]()
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            if sent - len(found) < _STREAM_WINDOW and self._send(answer, payload):
                sent += 1
            elif self._acknowledged(answer, end):
                found.append(time.perf_counter())
        return found

    def _connect(self) -> None:
        """Until something has come back."""
        end = time.perf_counter() + _CONNECT_SECONDS
        self._send(0, b"")
        while not self._acknowledged(0, end):
            problem = self._channel.problem()
            if time.perf_counter() >= end or problem in {"refused", "handshake"}:
                why = {"refused": "it does not trust this end", "handshake": "it is not the node it should be"}
                words = why.get(problem or "", "nobody answers")
                raise UnreachableError(f"{self._channel.endpoint} cannot be reached: {words}.")

    def _round_trip(self, end: float) -> float:
        seconds = []
        payload = bytes(SMALL)
        for trip in range(_FIRST_TRIPS + _TRIPS):
            begun = time.perf_counter()
            if begun >= end and trip > _FIRST_TRIPS:
                break
            self._send(0, payload)
            while not self._acknowledged(0, begun + _CONNECT_SECONDS):
                if time.perf_counter() - begun >= _CONNECT_SECONDS:
                    raise UnreachableError(f"{self._channel.endpoint} stopped answering.")
            if trip >= _FIRST_TRIPS:
                seconds.append(time.perf_counter() - begun)
        return quantiles(seconds, n=4)[0] if len(seconds) > 1 else seconds[0]

    def _stream(self, size: int, rate: float | None, round_trip: float, least: float, end: float) -> float | None:
        """Bytes per second of messages of ``size``, sent for ``least`` seconds; None: not over at ``end``."""
        payload = b"" if self._pull else bytes(size)
        answer = size if self._pull else 0
        window = _window(size, rate)
        self._first = self._number + 1
        sent = 0
        arrivals: list[float] = []
        due: float | None = None
        begun = now = time.perf_counter()
        while True:
            now = time.perf_counter()
            if now >= end:
                return None
            more = sent == 0 or now - begun < least or (sent < _FEW and now - begun < _FEW_PATIENCE * least)
            if not more and len(arrivals) == sent:
                return _rate(size, begun, arrivals, round_trip)
            sending = more and sent - len(arrivals) < window
            if sending:
                if due is None:
                    due = self._pace(size, now) if self._pace is not None else now
                if due <= now and self._send(answer, payload):
                    sent += 1
                    due = None
                    continue
            if self._acknowledged(answer, due if sending and due is not None and due > now else end):
                arrivals.append(time.perf_counter())

    def _send(self, answer: int, payload: bytes) -> bool:
        header = encode_header(Probe(self._probe, self._number + 1, answer))
        if not self._channel.send([header, payload]):
            return False
        self._number += 1
        return True

    def _acknowledged(self, answer: int, until: float) -> bool:
        """Whether a message was acknowledged before ``until``, with the answer asked for."""
        if self._stop():
            raise Cancelled("Measuring the link was stopped.")
        wait = max(0.0, min(until - time.perf_counter(), _TICK_SECONDS))
        frames = self._channel.recv_wait(wait)
        if frames is None:
            return False
        header = decode_header(frames[0])
        if isinstance(header, ShardFailed):
            raise RemoteError(f"The link is not measured: {header.message}", remote_code=header.code)
        if not isinstance(header, ProbeAck) or header.probe != self._probe or header.number > self._number:
            raise ProtocolError(f"A node answered a probe with {type(header).__name__}.")
        if header.number < self._first:
            return False
        if sum(frame.nbytes for frame in frames[1:]) != answer:
            raise ProtocolError("A node answered a probe with another number of bytes than it was asked for.")
        return True


def _window(size: int, rate: float | None) -> int:
    """Messages in flight: enough for them to overlap, no more than the link carries in a moment."""
    if rate is None:
        return _FIRST_WINDOW
    fewest = 2 if size / rate < _LONG_SECONDS else 1
    return max(fewest, min(int(_IN_FLIGHT_SECONDS * rate / size), _MOST_IN_FLIGHT))


def _rate(size: int, begun: float, arrivals: Sequence[float], round_trip: float) -> float:
    """Bytes per second of a stream. Its first quarter, which fills what lies between, does not count where there are
    enough messages."""
    taken = arrivals[-1] - begun
    if len(arrivals) >= _FEW:
        skipped = len(arrivals) // 4
        return (len(arrivals) - skipped) * size / max(arrivals[-1] - arrivals[skipped - 1], taken / 4)
    return len(arrivals) * size / max(taken - round_trip, taken / 2)
