"""Real encrypted sockets: who gets in, who does not, what happens when the other side goes away."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest
import zmq

from core.errors import InputError
from core.wire.keys import new_keys
from core.wire.sockets import Wire, endpoint

Until = Callable[[Callable[[], object]], object]
MakeWire = Callable[..., Wire]


def test_round_trip_knows_the_sender_by_key(make_wire: MakeWire, until: Until) -> None:
    client_keys = new_keys()
    server = make_wire(allow=lambda key: key == client_keys.public)
    listener = server.listen("127.0.0.1", 0)
    channel = make_wire(client_keys).connect(endpoint("127.0.0.1", listener.port), server.keys.public)
    big = np.arange(200_000, dtype=np.float32)
    assert channel.send([b"header", big, b""])
    received = until(listener.recv)
    assert received.user == client_keys.public
    assert bytes(received.frames[0]) == b"header"
    assert np.array_equal(np.frombuffer(received.frames[1], np.float32), big)
    assert len(received.frames[2]) == 0
    assert listener.recv() is None
    assert listener.send(received.sender, [b"answer", memoryview(big[:10])])
    answer = channel.recv_wait(30)
    assert answer is not None
    assert bytes(answer[0]) == b"answer"
    assert channel.recv() is None
    assert channel.problem() is None
    assert channel.connected
    assert not listener.send(b"nobody", [b"x"])


def test_stranger_is_refused_and_told_so(make_wire: MakeWire, until: Until) -> None:
    server = make_wire(allow=lambda key: False)
    listener = server.listen("127.0.0.1", 0)
    channel = make_wire().connect(endpoint("127.0.0.1", listener.port), server.keys.public)
    channel.send([b"let me in"])
    until(lambda: channel.problem() == "refused")
    assert listener.recv() is None


def test_an_allow_list_that_fails_keeps_the_door_shut(
    make_wire: MakeWire, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(key: str) -> bool:
        raise RuntimeError("broken list")

    server = make_wire(allow=broken)
    listener = server.listen("127.0.0.1", 0)
    open_listener = server.listen("127.0.0.1", 0, allow_any=True)
    address = endpoint("127.0.0.1", listener.port)
    refused = make_wire().connect(address, server.keys.public)
    until(lambda: refused.problem() == "refused")
    admitted = make_wire().connect(endpoint("127.0.0.1", open_listener.port), server.keys.public)
    admitted.send([b"hello"])
    until(open_listener.recv)


def test_each_listener_has_its_own_list(make_wire: MakeWire, until: Until) -> None:
    keys = new_keys()
    server = make_wire(allow=lambda key: False)
    wide = server.listen("127.0.0.1", 0, allow=lambda key: key == keys.public)
    narrow = server.listen("127.0.0.1", 0)
    client = make_wire(keys)
    client.connect(endpoint("127.0.0.1", wide.port), server.keys.public).send([b"x"])
    until(wide.recv)
    channel = client.connect(endpoint("127.0.0.1", narrow.port), server.keys.public)
    until(lambda: channel.problem() == "refused")


def test_another_server_key_is_noticed(make_wire: MakeWire, until: Until) -> None:
    server = make_wire(allow=lambda key: True)
    listener = server.listen("127.0.0.1", 0)
    channel = make_wire().connect(endpoint("127.0.0.1", listener.port), new_keys().public)
    channel.send([b"x"])
    until(lambda: channel.problem() == "handshake")
    assert listener.recv() is None


def test_plain_zeromq_gets_nothing(make_wire: MakeWire) -> None:
    server = make_wire(allow=lambda key: True)
    listener = server.listen("127.0.0.1", 0)
    with zmq.Context() as context, context.socket(zmq.DEALER) as plain:
        plain.linger = 0
        plain.connect(endpoint("127.0.0.1", listener.port))
        plain.send(b"no curve")
        poller = server.poller()
        poller.register(listener)
        assert poller.wait(0.3) == []


def test_channel_reconnects_to_a_restarted_server(make_wire: MakeWire, until: Until) -> None:
    keys = new_keys()
    first = make_wire(keys, allow=lambda key: True)
    listener = first.listen("127.0.0.1", 0)
    channel = make_wire().connect(endpoint("127.0.0.1", listener.port), keys.public)
    channel.send([b"1"])
    until(listener.recv)
    first.close()
    until(lambda: channel.problem() == "disconnected")
    second = make_wire(keys, allow=lambda key: True)
    again = until(lambda: _try_listen(second, listener.port))
    channel.send([b"2"])
    assert bytes(until(again.recv).frames[0]) == b"2"
    until(lambda: channel.problem() is None)


def _try_listen(wire: Wire, port: int) -> object:
    try:
        return wire.listen("127.0.0.1", port)
    except InputError:
        return None


def test_sends_to_a_silent_peer_never_block(make_wire: MakeWire) -> None:
    channel = make_wire().connect("tcp://127.0.0.1:9", new_keys().public, hwm=5)
    outcomes = [channel.send([b"x" * 1000]) for _ in range(50)]  # a send that blocked would never end
    assert outcomes[0]
    assert not outcomes[-1]


def test_port_in_use_and_foreign_address_have_words(make_wire: MakeWire) -> None:
    wire = make_wire()
    port = wire.listen("127.0.0.1", 0).port
    with pytest.raises(InputError, match=f"Port {port} on 127.0.0.1 is in use"):
        make_wire().listen("127.0.0.1", port)
    with pytest.raises(InputError, match=r"192\.0\.2\.1"):
        wire.listen("192.0.2.1", 0)
    with pytest.raises(InputError, match="nonsense"):
        wire.connect("nonsense", new_keys().public)
    with pytest.raises(InputError):
        wire.connect("tcp://127.0.0.1:1", "not a key")


def test_poller_is_woken_by_many_threads(make_wire: MakeWire) -> None:
    wire = make_wire()
    waker, poller = wire.waker(), wire.poller()
    poller.register(waker)
    assert poller.wait(0.01) == []
    threads = [threading.Thread(target=lambda: [waker.wake() for _ in range(500)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert poller.wait(30) == [waker]
    for thread in threads:
        thread.join()
    waker.drain()
    assert poller.wait(0) == []
    poller.unregister(waker)
    waker.close()
    waker.wake()
