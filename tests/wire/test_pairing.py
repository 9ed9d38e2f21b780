"""Pairing over real sockets: a code works once, a wrong one never, a shared key file always."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core import PROTOCOL_VERSION
from core.errors import InputError, ProtocolError, UnreachableError
from core.plan.form import NodeId
from core.wire.frames import decode_pair_reply, encode_pairing
from core.wire.keys import keys_from_code, keys_from_secret, new_keys
from core.wire.messages import Failure, PairReply, PairRequest
from core.wire.pairing import PairingHost, pair
from core.wire.sockets import Wire, endpoint
from core.wire.trust import TrustStore

MakeWire = Callable[..., Wire]


class Node:
    """Serves pairing on a thread, as an agent's control thread does."""

    def __init__(self, wire: Wire, trust: TrustStore, key_file: bytes | None = None) -> None:
        self.id = NodeId(wire.keys.public)
        reply = PairReply(self.id, "node", 7420, "0.1.0", PROTOCOL_VERSION)
        self.host = PairingHost(wire, "127.0.0.1", 0, trust, lambda: reply, key_file=key_file)
        self.first_code = self.host.code
        self.paired: list[str] = []
        self.renewed = threading.Event()
        self._waker = wire.waker()
        self._stopping = False
        self._poller = wire.poller()
        self._poller.register(self._waker)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while not self._stopping:
            if self.host.spent:
                if not self.host.renew():
                    self._poller.wait(0.02)
                    continue
                self.renewed.set()
            assert self.host.listener is not None
            self._poller.register(self.host.listener)
            self._poller.wait(30)
            self._poller.unregister(self.host.listener)
            if name := self.host.serve():
                self.paired.append(name)
                self.host.spend()
        self.host.close()

    def close(self) -> None:
        self._stopping = True
        self._waker.wake()
        self._thread.join()
        self._waker.close()


@pytest.fixture
def make_node(make_wire: MakeWire, tmp_path: Path) -> Iterator[Callable[..., tuple[Node, TrustStore]]]:
    nodes: list[Node] = []

    def make(key_file: bytes | None = None) -> tuple[Node, TrustStore]:
        trust = TrustStore(tmp_path / "trusted.json")
        nodes.append(Node(make_wire(), trust, key_file))
        return nodes[-1], trust

    yield make
    for node in nodes:
        node.close()


def test_a_code_works_once(make_node: Callable[..., tuple[Node, TrustStore]]) -> None:
    node, trust = make_node()
    assert node.first_code is not None
    client = new_keys()
    reply = pair("127.0.0.1", node.host.port, keys_from_code(node.first_code), client, "desk")
    assert reply.id == node.id
    assert trust.is_client(client.public)
    assert node.renewed.wait(30)
    assert node.paired == ["desk"]
    assert node.host.code != node.first_code
    with pytest.raises(UnreachableError, match="did not accept the pairing code"):
        pair("127.0.0.1", node.host.port, keys_from_code(node.first_code), new_keys(), "thief", timeout=60)
    pair("127.0.0.1", node.host.port, keys_from_code(node.host.code or ""), new_keys(), "lab")
    assert sorted(trust.clients.values()) == ["desk", "lab"]


def test_a_shared_key_file_works_again_and_again(make_node: Callable[..., tuple[Node, TrustStore]]) -> None:
    secret = b"s" * 32
    node, trust = make_node(secret)
    assert node.host.code is None
    for name in ("one", "two"):
        pair("127.0.0.1", node.host.port, keys_from_secret(secret), new_keys(), name)
    assert sorted(trust.clients.values()) == ["one", "two"]
    with pytest.raises(UnreachableError):
        pair("127.0.0.1", node.host.port, keys_from_secret(b"x" * 32), new_keys(), "thief", timeout=0.5)


def test_nobody_there() -> None:
    with pytest.raises(UnreachableError, match=r"Nobody answers at 127\.0\.0\.1 port 9"):
        pair("127.0.0.1", 9, keys_from_code("0000000000"), new_keys(), "desk", timeout=0.3)


def test_a_key_that_is_not_the_senders_own_is_not_trusted(
    make_node: Callable[..., tuple[Node, TrustStore]], make_wire: MakeWire
) -> None:
    node, trust = make_node(b"s" * 32)
    client = make_wire()
    channel = client.connect(endpoint("127.0.0.1", node.host.port), keys_from_secret(b"s" * 32).public)
    for message in (
        encode_pairing(PairRequest(1, "desk", new_keys().public)),
        encode_pairing(PairRequest(1, " ", client.keys.public)),
        b"junk",
    ):
        channel.send([message])
        answer = channel.recv_wait(30)
        assert answer is not None
        assert isinstance(decode_pair_reply(answer[0]), Failure)
    assert trust.clients == {}


def test_words_for_a_wrong_code() -> None:
    with pytest.raises(InputError, match="pairing code"):
        keys_from_code("123")
    with pytest.raises(ProtocolError):
        decode_pair_reply(b"junk")
