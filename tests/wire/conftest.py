"""A server and clients on real, encrypted loopback sockets."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from core.wire.keys import KeyPair, new_keys
from core.wire.sockets import Wire


@pytest.fixture
def make_wire() -> Iterator[Callable[..., Wire]]:
    """Makes Wires that are closed after the test."""
    wires: list[Wire] = []

    def make(keys: KeyPair | None = None, allow: Callable[[str], bool] | None = None) -> Wire:
        wires.append(Wire(keys or new_keys(), allow))
        return wires[-1]

    yield make
    for wire in wires:
        wire.close()


@pytest.fixture
def until() -> Callable[[Callable[[], object]], object]:
    """Poll a condition until it is truthy; fails after 60 s."""

    def wait(condition: Callable[[], object]) -> object:
        deadline = time.monotonic() + 60
        while not (value := condition()):
            assert time.monotonic() < deadline, "the condition did not come true in 60 s"
            time.sleep(0.005)
        return value

    return wait
