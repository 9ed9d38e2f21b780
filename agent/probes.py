"""Who may measure links to this node, and how: only nodes that a paired workstation introduced, for a short while.

Nobody can make this node send more than it is sent: a probe is answered by its acknowledgement alone. Only the
workstation that opened the probe may ask for bytes, over its own encrypted connection, and for 16 MiB at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from agent.failures import AgentFailureError
from agent.peers import is_endpoint
from core.wire.keys import is_key
from core.wire.messages import OpenProbe, Probe, ProbeLink
from core.wire.probing import LARGEST, MOST_SECONDS, SIZES
from core.wire.trust import TrustStore

LONGEST: Final = 600.0
"""Seconds that a probe may be open."""
_MOST_OPEN: Final = 8
_MOST_PEERS: Final = 256
_MOST_NAME: Final = 64
_MOST_SIZES: Final = 2 * len(SIZES)


class _Open(Struct, frozen=True):
    user: str
    """Key of the workstation that opened it."""
    peers: frozenset[str]
    until: float


class Probes:
    """Changed by the control thread, read by all: what is read is never changed in place."""

    def __init__(self, trust: TrustStore) -> None:
        self._trust = trust
        self._open: dict[str, _Open] = {}

    # ------------------------------------------------------------ the control thread

    def open(self, message: OpenProbe, user: str, now: float) -> None:
        """Raises AgentFailureError("field" or "busy")."""
        if not 0 < len(message.probe) <= _MOST_NAME:
            raise AgentFailureError("field", f"Field probe has {len(message.probe)} characters, not 1 to {_MOST_NAME}.")
        if len(message.peers) > _MOST_PEERS:
            raise AgentFailureError("field", f"Field peers has {len(message.peers)} nodes; at most {_MOST_PEERS}.")
        if not all(is_key(peer) for peer in message.peers):
            raise AgentFailureError("field", "Field peers holds something that is no node's key.")
        if not 0 < message.seconds <= LONGEST:
            raise AgentFailureError("field", f"Field seconds is {message.seconds}, not above 0 and to {LONGEST:g}.")
        before = self._open.get(message.probe)
        if before is not None and before.user != user:
            raise AgentFailureError("field", "Field probe is the name of another workstation's probe.")
        if before is None and len(self._open) >= _MOST_OPEN:
            raise AgentFailureError("busy", "Too many measurements of links are under way on this node.")
        opened = _Open(user, frozenset(message.peers), now + message.seconds)
        self._open = {**self._open, message.probe: opened}
        self._trust.lend(_lent(message.probe), opened.peers)

    def close(self, probe: str, user: str) -> None:
        """Only its own workstation closes a probe; others are not told whether there is one."""
        if probe in self._open and self._open[probe].user == user:
            self._drop(probe)

    def close_others(self, user: str) -> None:
        """This workstation has taken the node: nobody else measures any more."""
        for probe in [name for name, opened in self._open.items() if opened.user != user]:
            self._drop(probe)

    def expire(self, now: float) -> None:
        for probe in [name for name, opened in self._open.items() if now >= opened.until]:
            self._drop(probe)

    def shut(self) -> None:
        """The agent ends: so does whatever is being measured."""
        for probe in self._open:
            self._drop(probe)

    @property
    def next_expiry(self) -> float | None:
        return min((opened.until for opened in self._open.values()), default=None)

    def _drop(self, probe: str) -> None:
        self._open = {name: opened for name, opened in self._open.items() if name != probe}
        self._trust.withdraw(_lent(probe))

    # ------------------------------------------------------------ any thread

    def is_open(self, probe: str) -> bool:
        return probe in self._open

    def check(self, message: ProbeLink, user: str) -> None:
        """Raises AgentFailureError("field") where this node is not to measure that."""
        opened = self._open.get(message.probe)
        if opened is None or opened.user != user:
            raise AgentFailureError("field", "Field probe names none that is open here.")
        if message.peer not in opened.peers:
            raise AgentFailureError("field", "Field peer is a node that was not introduced for this probe.")
        if not is_endpoint(message.peer, message.endpoint):
            raise AgentFailureError("field", f"Field endpoint is {message.endpoint[:80]!r}, which is none.")
        if not 0 < len(message.sizes) <= _MOST_SIZES:
            raise AgentFailureError("field", f"Field sizes has {len(message.sizes)} entries, not 1 to {_MOST_SIZES}.")
        if not all(1 <= size <= LARGEST for size in message.sizes):
            raise AgentFailureError("field", f"Field sizes holds one that is not from 1 to {LARGEST}.")
        if not 0 < message.seconds <= MOST_SECONDS:
            raise AgentFailureError(
                "field", f"Field seconds is {message.seconds}, not above 0 and to {MOST_SECONDS:g}."
            )

    def refusal(self, header: Probe, user: str, frames: Sequence[memoryview]) -> str | None:
        """Why a probe that came on the data socket is not acknowledged; None: it is."""
        opened = self._open.get(header.probe)
        if opened is None or not (user == opened.user or user in opened.peers):
            return "Field probe names none that is open here for you."
        if len(frames) != 2:
            return f"A probe has 2 frames, {len(frames)} came."
        if frames[1].nbytes > LARGEST:
            return f"A probe carries {LARGEST} bytes at most, {frames[1].nbytes} came."
        if not 0 <= header.answer <= LARGEST:
            return f"Field answer is {header.answer}, not from 0 to {LARGEST}."
        if header.answer and user != opened.user:
            return "Field answer: only the workstation that opened the probe may ask for bytes."
        return None


def _lent(probe: str) -> str:
    """What nodes are lent for; no deployment has such a name."""
    return f"probe {probe}"
