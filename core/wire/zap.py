"""The gatekeeper of a context: answers ZeroMQ's authentication requests (ZAP, RFC 27) for every listener.

One thread for one context, asleep until a peer shakes hands. It fails closed: an unknown listener, an unknown key, a
malformed request or an error in the allow-list is a refusal. Whoever is let in carries its key as ``User-Id``.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import zmq
from zmq.utils import z85

from core.wire.waker import Waker

_ENDPOINT = "inproc://zeromq.zap.01"
_VERSION = b"1.0"
_log = logging.getLogger(__name__)

Allow = Callable[[str], bool]


class Gatekeeper:
    """Decides by listener (the ZAP domain) and client key. ``allow`` callables are called on its thread."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        self._allow: dict[bytes, Allow] = {}
        self._stop = Waker()
        self._socket = context.socket(zmq.REP)
        self._socket.linger = 0
        self._socket.bind(_ENDPOINT)
        self._thread = threading.Thread(target=self._serve, name="gatekeeper", daemon=True)
        self._thread.start()

    def admit(self, domain: bytes, allow: Allow) -> None:
        """Let ``allow`` decide for the listener named ``domain``."""
        self._allow[domain] = allow

    def close(self) -> None:
        self._stop.wake()
        self._thread.join()
        self._stop.close()

    def _serve(self) -> None:
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._stop.fileno(), zmq.POLLIN)
        while True:
            ready = dict(poller.poll())
            if self._stop.fileno() in ready:
                break
            self._socket.send_multipart(self._answer(self._socket.recv_multipart()))
        self._socket.close()

    def _answer(self, request: list[bytes]) -> list[bytes]:
        number = request[1] if len(request) > 1 else b""
        key = self._admitted(request)
        if key is None:
            return [_VERSION, number, b"400", b"not trusted", b"", b""]
        return [_VERSION, number, b"200", b"OK", key.encode(), b""]

    def _admitted(self, request: list[bytes]) -> str | None:
        if len(request) != 7 or request[0] != _VERSION or request[5] != b"CURVE" or len(request[6]) != 32:
            return None
        allow = self._allow.get(request[2])
        key = z85.encode(request[6]).decode()
        try:
            return key if allow is not None and allow(key) else None
        except Exception:  # noqa: BLE001 - whatever goes wrong in the allow-list, the door stays shut and the thread alive
            _log.exception("the allow-list failed; the peer was refused")
            return None
