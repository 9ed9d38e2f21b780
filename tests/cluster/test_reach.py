from __future__ import annotations

import socket

import pytest

from core.cluster.reach import parse_address, probe_tcp
from core.errors import InputError, UnreachableError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pi-1", ("pi-1", 7420)),
        ("192.168.1.20:9000", ("192.168.1.20", 9000)),
        (" lab.local:1 ", ("lab.local", 1)),
        ("[fe80::1]:9000", ("fe80::1", 9000)),
        ("[fe80::1]", ("fe80::1", 7420)),
        ("fe80::1", ("fe80::1", 7420)),
    ],
)
def test_addresses_as_people_write_them(text: str, expected: tuple[str, int]) -> None:
    assert parse_address(text) == expected


@pytest.mark.parametrize("text", ["", ":7420", "pi:0", "pi:65536", "pi:http", "http://pi:7420", "a b", "pi:"])
def test_what_is_no_address_is_said(text: str) -> None:
    with pytest.raises(InputError):
        parse_address(text)


def test_why_nothing_answers_is_said_in_words() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        probe_tcp("127.0.0.1", port)
    with pytest.raises(UnreachableError, match=f"nothing listens on port {port}"):
        probe_tcp("127.0.0.1", port)
    with pytest.raises(UnreachableError, match="No machine has the name"):
        probe_tcp("no-such-machine.invalid", 7420)
