"""Pairing: how a node comes to trust a workstation.

The node listens on a socket of its own whose Curve keys are made from a one-time code (or from a shared key file).
Whoever can shake hands there knows the code; nothing secret is ever sent. The workstation then says its public key,
which must be the one it shook hands with, and the node answers with its own identity.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from core import PROTOCOL_VERSION
from core.errors import InputError, ProtocolError, UnreachableError
from core.plan.form import NodeId
from core.wire.frames import decode_pair_reply, decode_pair_request, encode_pairing
from core.wire.keys import KeyPair, is_key, keys_from_code, keys_from_secret, new_pairing_code
from core.wire.messages import Failure, PairReply, PairRequest
from core.wire.sockets import Channel, Listener, Wire, endpoint
from core.wire.trust import TrustStore

PAIRING_TIMEOUT: Final = 8.0
_LOOK_SECONDS: Final = 0.1
_PROBLEM_SECONDS: Final = 1.0
"""A handshake that failed is tried again by itself; after so long it is not going to work."""
_MAX_MESSAGE = 4096
_MAX_NAME = 64
_log = logging.getLogger(__name__)


class PairingHost:
    """The node's side. Lives on one thread, which polls ``listener`` and calls ``serve`` when it is ready.

    After a success with a code the code is spent: the socket closes, and ``renew`` opens it again with a new code.
    """

    def __init__(
        self,
        wire: Wire,
        bind: str,
        port: int,
        trust: TrustStore,
        reply: Callable[[], PairReply],
        *,
        key_file: bytes | None = None,
    ) -> None:
        """``reply`` makes the answer to a workstation. Raises InputError when the port is in use."""
        self._wire = wire
        self._bind = bind
        self._trust = trust
        self._reply = reply
        self._key_file = key_file
        self.code: str | None = None if key_file else new_pairing_code()
        self.listener: Listener | None = self._listen(port)
        self.port = self.listener.port

    def serve(self) -> str | None:
        """Answer one request, if there is one. The name of the workstation that was just paired, or None."""
        received = self.listener.recv() if self.listener else None
        if received is None or self.listener is None:
            return None
        try:
            request = _check(received.frames, received.user)
        except ProtocolError as error:
            self.listener.send(received.sender, [encode_pairing(Failure("field", error.message))])
            return None
        name = request.client_name[:_MAX_NAME]
        self._trust.add(request.client_key, name)
        self.listener.send(received.sender, [encode_pairing(self._reply())])
        return name

    @property
    def spent(self) -> bool:
        """Whether the socket is closed and waits for ``renew``."""
        return self.listener is None

    def spend(self) -> None:
        """Close the socket after a success; its answer still goes out. With a key file it stays open."""
        if self._key_file is None and self.listener is not None:
            self.listener.close()
            self.listener = None

    def renew(self) -> bool:
        """Open again on the same port with a new code. False: the port is not free yet, try again later."""
        self.code = new_pairing_code()
        try:
            self.listener = self._listen(self.port)
        except InputError:
            _log.debug("port %d is not free yet", self.port)
            return False
        return True

    def close(self) -> None:
        if self.listener is not None:
            self.listener.close()
            self.listener = None

    def _listen(self, port: int) -> Listener:
        keys = keys_from_secret(self._key_file) if self._key_file else keys_from_code(self.code or "")
        return self._wire.listen(self._bind, port, keys=keys, allow_any=True, max_message=_MAX_MESSAGE)


def pair(
    host: str,
    pairing_port: int,
    secret_keys: KeyPair,
    client_keys: KeyPair,
    client_name: str,
    timeout: float = PAIRING_TIMEOUT,
) -> PairReply:
    """Make the node at ``host`` trust ``client_keys``. Blocks up to ``timeout`` seconds.

    ``secret_keys`` come from keys_from_code or keys_from_secret. Raises UnreachableError (nobody answers, wrong code)
    or ProtocolError.
    """
    wire = Wire(client_keys)
    try:
        channel = wire.connect(endpoint(host, pairing_port), secret_keys.public)
        channel.send([encode_pairing(PairRequest(PROTOCOL_VERSION, client_name, client_keys.public))])
        frames, problem = _wait_for_reply(channel, timeout)
    finally:
        wire.close()
    if frames is None:
        raise _no_answer(host, pairing_port, problem, timeout)
    reply = decode_pair_reply(frames[0])
    if isinstance(reply, Failure):
        raise ProtocolError(f"{host} refused to pair: {reply.message}")
    if not is_key(reply.id):
        raise ProtocolError(f"{host} answered with field id that is not a public key.")
    return PairReply(NodeId(reply.id), reply.name[:_MAX_NAME], reply.control_port, reply.version, reply.protocol)


def _wait_for_reply(channel: Channel, timeout: float) -> tuple[list[memoryview] | None, str | None]:
    """The reply, or None and the problem; a handshake that keeps failing is not waited for to the end."""
    deadline = time.monotonic() + timeout
    while True:
        frames = channel.recv_wait(min(_LOOK_SECONDS, max(0.0, deadline - time.monotonic())))
        problem = channel.problem()
        if problem is not None:
            deadline = min(deadline, time.monotonic() + _PROBLEM_SECONDS)
        if frames is not None or time.monotonic() >= deadline:
            return frames, problem


def _check(frames: list[memoryview], user: str) -> PairRequest:
    if len(frames) != 1:
        raise ProtocolError(f"A pairing request has one frame, {len(frames)} came.")
    request = decode_pair_request(frames[0])
    if request.client_key != user:
        raise ProtocolError("Field client_key is not the key that this connection was made with.")
    if not request.client_name.strip():
        raise ProtocolError("Field client_name is empty.")
    return request


def _no_answer(host: str, port: int, problem: str | None, timeout: float) -> UnreachableError:
    if problem is not None:
        return UnreachableError(
            f"{host} did not accept the pairing code.", hint="Read the code on the node again: each one works once."
        )
    return UnreachableError(
        f"Nobody answers at {host} port {port} within {timeout:g} s.",
        hint="Is shardboard-agent running there, and is the port open in its firewall?",
    )
