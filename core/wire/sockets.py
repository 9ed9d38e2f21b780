"""Encrypted sockets. The only place where sockets are made, so that none is ever made without CurveZMQ.

A Wire owns one ZeroMQ context. Its Listeners and Channels belong to the thread that uses them: make, use and close each
one in one thread (or hand it over before its first use). Frames are bytes, memoryviews or C-contiguous arrays; large
ones are sent without a copy, so a buffer must not be written to after it was sent.
"""

from __future__ import annotations

import errno
import itertools
import math
import secrets
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, cast

import numpy as np
import zmq
from zmq.utils.monitor import recv_monitor_message

from core.errors import InputError
from core.wire.keys import KeyPair
from core.wire.waker import Waker
from core.wire.zap import Gatekeeper

if TYPE_CHECKING:
    from core.wire.zap import Allow

Buffer = bytes | memoryview | np.ndarray

TRANSPORT: Final = f"libzmq {zmq.zmq_version()}"
"""What carries the bytes, with its version."""
DEFAULT_HWM: Final = 256
"""Messages that a socket holds for one peer before it refuses more."""
MAX_MESSAGE: Final = 1 << 31
"""Bytes of the largest frame that a peer may send."""
SILENCE_SECONDS: Final = 6.0
"""A connection whose peer is silent for so long ends."""
DATA_SILENCE_SECONDS: Final = 600.0
"""The same of connections that carry tensors: nothing else comes through while a large one is on a slow line. A node
that is gone shows on its control connection."""
_LINGER_MS = 200
_HEARTBEAT_MS = 2_000
_RECONNECT_MS = 100
_RECONNECT_MAX_MS = 2_000
_HANDSHAKE_MS = 5_000

_PROGRAM_BYTES: Final = 8
"""Of a routing id: the same for all connections of one Wire."""

_DONTWAIT = int(zmq.NOBLOCK)
_SNDMORE = int(zmq.SNDMORE)
_SENDING_MORE = _DONTWAIT | _SNDMORE
_POLLIN = int(zmq.POLLIN)
_EVENTS = int(zmq.EVENTS)

_HANDSHAKE_FAILED = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
_WATCHED = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_HANDSHAKE_FAILED_AUTH | _HANDSHAKE_FAILED | zmq.EVENT_DISCONNECTED

_Socket = zmq.Socket[bytes]


class Received(NamedTuple):
    """One message: the connection it came on, the authenticated key of its sender (Z85), and its frames."""

    sender: bytes
    user: str
    frames: list[memoryview]


class Listener:
    """A ROUTER with Curve. Never blocks."""

    def __init__(self, socket: _Socket, opened: set[Listener | Channel]) -> None:
        self._socket = socket
        self._opened = opened
        opened.add(self)
        self.port = int(cast(bytes, socket.last_endpoint).decode().rpartition(":")[2])

    @property
    def waiting(self) -> bool:
        """A message can be received."""
        return bool(cast(int, self._socket.get(_EVENTS)) & _POLLIN)

    def recv(self) -> Received | None:
        """The next message, or None when there is none now."""
        socket = self._socket
        if not cast(int, socket.get(_EVENTS)) & _POLLIN:
            return None
        first = socket.recv(_DONTWAIT, False)
        user = cast(str, first.get("User-Id"))
        sender: bytes = first.bytes
        frames = []
        more = first.more
        while more:
            frame = socket.recv(_DONTWAIT, False)
            frames.append(frame.buffer)
            more = frame.more
        return Received(sender, user, frames)

    def send(self, to: bytes, frames: Sequence[Buffer]) -> bool:
        """Send to the connection ``to``. False, and nothing was sent: that peer is gone, or its queue is full."""
        try:
            self._socket.send(to, _SENDING_MORE)
            _send(self._socket, frames)
        except zmq.ZMQError as error:
            if error.errno in (errno.EHOSTUNREACH, zmq.EHOSTUNREACH, zmq.EAGAIN):
                return False
            raise
        return True

    def close(self) -> None:
        self._opened.discard(self)
        self._socket.close()


class Channel:
    """A DEALER with Curve, connected to one Listener; reconnects by itself."""

    def __init__(self, socket: _Socket, endpoint: str, opened: set[Listener | Channel]) -> None:
        self._socket = socket
        self._opened = opened
        opened.add(self)
        self.endpoint = endpoint
        self._monitor: _Socket = socket.get_monitor_socket(_WATCHED)
        self._problem: str | None = None
        self.connected = False

    def open(self) -> None:
        """Begin to connect; called by Wire."""
        self._socket.connect(self.endpoint)

    def send(self, frames: Sequence[Buffer]) -> bool:
        """Queue a message; it leaves once connected. False: the queue is full and nothing was sent."""
        try:
            _send(self._socket, frames)
        except zmq.Again:
            return False
        return True

    def recv(self) -> list[memoryview] | None:
        """The frames of the next message, or None when there is none now."""
        socket = self._socket
        if not cast(int, socket.get(_EVENTS)) & _POLLIN:
            return None
        frames = []
        more = True
        while more:
            frame = socket.recv(_DONTWAIT, False)
            frames.append(frame.buffer)
            more = frame.more
        return frames

    def recv_wait(self, timeout: float) -> list[memoryview] | None:
        """Like recv, but waits up to ``timeout`` seconds."""
        frames = self.recv()
        if frames is None and self._socket.poll(_milliseconds(timeout)):
            frames = self.recv()
        return frames

    def problem(self) -> str | None:
        """Why nothing goes through: "refused" (the peer does not trust our key), "handshake" (the peer has another key
        than expected, or does not speak this protocol), "disconnected"; None while connected or still connecting."""
        while cast(int, self._monitor.get(_EVENTS)) & _POLLIN:
            event = recv_monitor_message(self._monitor, _DONTWAIT)["event"]
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self.connected, self._problem = True, None
            elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                self._problem = "refused"
            elif event & _HANDSHAKE_FAILED:
                self._problem = "handshake"
            elif self.connected:
                self.connected, self._problem = False, "disconnected"
            elif self._problem is None:
                self._problem = "handshake"  # closed before the handshake ended
        return self._problem

    def close(self) -> None:
        if self._socket.closed:
            return
        self._opened.discard(self)
        self._socket.disable_monitor()
        self._monitor.close()
        self._socket.close()


class Poller:
    """Waits for any of several Listeners, Channels and Wakers. For one thread."""

    def __init__(self) -> None:
        self._poller = zmq.Poller()
        self._things: dict[_Socket | int, Listener | Channel | Waker] = {}

    def register(self, thing: Listener | Channel | Waker) -> None:
        handle = _handle(thing)
        self._things[handle] = thing
        self._poller.register(handle, zmq.POLLIN)

    def unregister(self, thing: Listener | Channel | Waker) -> None:
        """Call before the socket is closed."""
        handle = _handle(thing)
        del self._things[handle]
        self._poller.unregister(handle)

    def wait(self, timeout_s: float | None = None) -> list[Listener | Channel | Waker]:
        """Those that have something to read; empty after ``timeout_s`` seconds. None: wait for ever."""
        timeout = None if timeout_s is None else _milliseconds(timeout_s)
        return [self._things[handle] for handle, _ in self._poller.poll(timeout)]


class Wire:
    """One ZeroMQ context with this side's keys. ``allow`` says which client keys its Listeners let in (None: none)."""

    def __init__(self, keys: KeyPair, allow: Callable[[str], bool] | None = None) -> None:
        self.keys = keys
        self._allow: Allow = allow or _allow_none
        self._context: zmq.Context[_Socket] = zmq.Context()
        self._gatekeeper: Gatekeeper | None = None
        self._domains = itertools.count(1)
        self._opened: set[Listener | Channel] = set()
        self._program = b"\x01" + secrets.token_bytes(_PROGRAM_BYTES - 1)  # a routing id must not begin with 0

    def listen(
        self,
        bind: str,
        port: int,
        *,
        keys: KeyPair | None = None,
        allow: Callable[[str], bool] | None = None,
        allow_any: bool = False,
        hwm: int = DEFAULT_HWM,
        send_hwm: int | None = None,
        max_message: int = MAX_MESSAGE,
        silence: float = SILENCE_SECONDS,
    ) -> Listener:
        """Listen on an address of this machine ("0.0.0.0", "::", "192.168.1.5"); port 0 takes any free one.

        ``allow`` replaces the Wire's own list for this Listener; ``allow_any`` lets in whoever knows its public key.
        ``hwm`` messages are held for each peer in each direction, ``send_hwm`` of those that are to go out.
        Raises InputError when the port is in use or the address is not this machine's.
        """
        if self._gatekeeper is None:
            self._gatekeeper = Gatekeeper(self._context)
        domain = b"%d" % next(self._domains)
        self._gatekeeper.admit(domain, _allow_all if allow_any else allow or self._allow)
        socket = self._context.socket(zmq.ROUTER)
        _harden(socket, hwm, max_message, silence)
        socket.sndhwm = send_hwm or hwm
        own = keys or self.keys
        socket.curve_server = True
        socket.curve_secretkey = own.secret.encode()
        socket.curve_publickey = own.public.encode()
        socket.zap_domain = domain
        socket.set(zmq.ZAP_ENFORCE_DOMAIN, 1)
        socket.router_mandatory = True
        socket.router_handover = True
        try:
            socket.ipv6 = ":" in bind
            socket.bind(f"tcp://{f'[{bind}]' if ':' in bind else bind}:{port or '*'}")
        except zmq.ZMQError as error:
            socket.close()
            raise _bind_error(bind, port, error) from error
        return Listener(socket, self._opened)

    def connect(
        self,
        endpoint: str,
        server_key: str,
        *,
        keys: KeyPair | None = None,
        hwm: int = DEFAULT_HWM,
        silence: float = SILENCE_SECONDS,
    ) -> Channel:
        """Connect to the Listener at ``endpoint`` ("tcp://host:port") whose public key is ``server_key``.

        Returns at once; connecting, and reconnecting with the same routing id, goes on in the background.
        Raises InputError when the endpoint is not one.
        """
        socket = self._context.socket(zmq.DEALER)
        _harden(socket, hwm, MAX_MESSAGE, silence)
        own = keys or self.keys
        socket.curve_secretkey = own.secret.encode()
        socket.curve_publickey = own.public.encode()
        socket.routing_id = self._program + secrets.token_bytes(8)
        socket.reconnect_ivl = _RECONNECT_MS
        socket.reconnect_ivl_max = _RECONNECT_MAX_MS
        socket.set(zmq.CONNECT_TIMEOUT, _HANDSHAKE_MS)
        socket.ipv6 = "[" in endpoint
        channel = Channel(socket, endpoint, self._opened)
        try:
            socket.curve_serverkey = server_key.encode()
            channel.open()
        except (zmq.ZMQError, ValueError) as error:
            channel.close()
            raise InputError(f"{endpoint} with the key {server_key!r} cannot be connected to: {error}.") from error
        return channel

    def waker(self) -> Waker:
        return Waker()

    def poller(self) -> Poller:
        return Poller()

    def close(self) -> None:
        """Close everything; call when no other thread uses this Wire's sockets any more."""
        if self._gatekeeper is not None:
            self._gatekeeper.close()
            self._gatekeeper = None
        for thing in tuple(self._opened):
            thing.close()
        self._context.term()


def endpoint(host: str, port: int) -> str:
    """``tcp://host:port``, with brackets round an IPv6 address."""
    return f"tcp://{f'[{host}]' if ':' in host else host}:{port}"


def program_of(sender: bytes) -> bytes:
    """What the connections of one Wire have in common: programs of one workstation share its key, but not this."""
    return sender[:_PROGRAM_BYTES]


def _send(socket: _Socket, frames: Sequence[Buffer]) -> None:
    last = len(frames) - 1
    for index, frame in enumerate(frames):
        socket.send(cast(bytes, frame), _DONTWAIT if index == last else _SENDING_MORE, False)


def _harden(socket: _Socket, hwm: int, max_message: int, silence: float) -> None:
    socket.linger = _LINGER_MS
    socket.sndhwm = hwm
    socket.rcvhwm = hwm
    socket.maxmsgsize = max_message
    socket.set(zmq.HEARTBEAT_IVL, _HEARTBEAT_MS)
    socket.set(zmq.HEARTBEAT_TIMEOUT, round(1000 * silence))
    socket.set(zmq.HEARTBEAT_TTL, round(1000 * silence))
    socket.set(zmq.HANDSHAKE_IVL, _HANDSHAKE_MS)


def _bind_error(bind: str, port: int, error: zmq.ZMQError) -> InputError:
    if error.errno in (errno.EADDRINUSE, zmq.EADDRINUSE):
        return InputError(f"Port {port} on {bind} is in use.", hint="Choose another one with --port, or 0 for any.")
    if error.errno in (errno.EADDRNOTAVAIL, errno.ENODEV, zmq.EADDRNOTAVAIL):
        return InputError(f"{bind} is not an address of this machine.", hint="Choose one of its own with --bind.")
    return InputError(f"Cannot listen on {bind} port {port}: {error}.")


def _handle(thing: Listener | Channel | Waker) -> _Socket | int:
    return thing.fileno() if isinstance(thing, Waker) else thing._socket


def _milliseconds(seconds: float) -> int:
    return max(0, math.ceil(seconds * 1000))


def _allow_all(_key: str) -> bool:
    return True


def _allow_none(_key: str) -> bool:
    return False
