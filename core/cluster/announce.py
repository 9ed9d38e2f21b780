"""What a node says of itself over mDNS (DNS-SD), and how strictly it is read.

An agent registers one instance of ``SERVICE_TYPE``; the service's port is its control port, the TXT record holds the
rest. Anyone on the LAN can send such a record: nothing in it is believed before ``decode_txt`` has checked it, and
even then it is only a hint where to connect (the id is proved by CurveZMQ).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from core.errors import ProtocolError
from core.plan.form import NodeId
from core.wire.keys import is_key

SERVICE_TYPE: Final = "_shardboard._tcp.local."

LONGEST_NAME: Final = 63
"""Bytes of UTF-8: a DNS label."""
LONGEST_VERSION: Final = 32

_VERSION: Final = re.compile(r"[0-9A-Za-z.+!\-_]+")


class NodeAnnouncement(Struct, frozen=True):
    """The TXT record, checked."""

    id: NodeId
    name: str
    version: str
    protocol: int
    pairing_port: int | None
    """None: the node takes no pairing."""
    data_port: int


def encode_txt(announcement: NodeAnnouncement) -> dict[str, str]:
    """TXT keys id, name, version, protocol, pair (absent without pairing) and data. Raises ProtocolError."""
    pair = {} if announcement.pairing_port is None else {"pair": str(announcement.pairing_port)}
    txt = {
        "id": announcement.id,
        "name": announcement.name,
        "version": announcement.version,
        "protocol": str(announcement.protocol),
        "data": str(announcement.data_port),
        **pair,
    }
    decode_txt({key.encode(): value.encode() for key, value in txt.items()})
    return txt


def decode_txt(txt: Mapping[bytes, bytes | None]) -> NodeAnnouncement:
    """Read a TXT record as zeroconf gives it (``ServiceInfo.properties``). Keys this version does not know are ignored.

    Raises ProtocolError naming the key that is missing or wrong.
    """
    return NodeAnnouncement(
        id=_node_id(txt),
        name=_name(txt),
        version=_version(txt),
        protocol=_number(txt, "protocol", 0, 2**31 - 1),
        pairing_port=_number(txt, "pair", 1, 65535) if txt.get(b"pair") else None,
        data_port=_number(txt, "data", 1, 65535),
    )


def _node_id(txt: Mapping[bytes, bytes | None]) -> NodeId:
    text = _text(txt, "id")
    # Not every 40 characters of the alphabet are a key: each five must fit into 32 bits.
    if not is_key(text):
        raise ProtocolError('"id" of the announcement is not a node id (32 bytes in Z85).')
    return NodeId(text)


def clean_name(name: str, fallback: str = "node") -> str:
    """A name that fits an announcement: printable, one line, at most 63 bytes of UTF-8, never empty."""
    printable = " ".join("".join(c if c.isprintable() else " " for c in name).split())
    return shortened(printable, LONGEST_NAME) or fallback


def instance_name(name: str, node: NodeId) -> str:
    """The service instance name for a node: unlike its name, no other node has it.

    Many machines are called "raspberrypi", and mDNS's own search for a free name fails where they start together.
    """
    mark = hashlib.sha256(node.encode()).hexdigest()[:8]
    # A dot is legal in an instance label but many tools split there; a few bytes are left for mDNS's -2.
    return f"{shortened(clean_name(name).replace('.', '-'), LONGEST_NAME - 15)} {mark}.{SERVICE_TYPE}"


def shortened(text: str, nbytes: int) -> str:
    """``text`` cut to ``nbytes`` of UTF-8 without leaving half a character."""
    return text.encode()[:nbytes].decode(errors="ignore").rstrip()


def _text(txt: Mapping[bytes, bytes | None], key: str) -> str:
    raw = txt.get(key.encode())
    if raw is None:
        raise ProtocolError(f'The announcement lacks "{key}".')
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise ProtocolError(f'"{key}" of the announcement is not UTF-8.') from None


def _matching(txt: Mapping[bytes, bytes | None], key: str, pattern: re.Pattern[str], what: str) -> str:
    text = _text(txt, key)
    if not pattern.fullmatch(text):
        raise ProtocolError(f'"{key}" of the announcement is not {what}.')
    return text


def _name(txt: Mapping[bytes, bytes | None]) -> str:
    name = _text(txt, "name")
    if not name or len(name.encode()) > LONGEST_NAME or not name.isprintable():
        raise ProtocolError(f'"name" of the announcement is not 1 to {LONGEST_NAME} bytes of printable text.')
    return name


def _version(txt: Mapping[bytes, bytes | None]) -> str:
    version = _matching(txt, "version", _VERSION, "a version")
    if len(version) > LONGEST_VERSION:
        raise ProtocolError(f'"version" of the announcement is longer than {LONGEST_VERSION} characters.')
    return version


def _number(txt: Mapping[bytes, bytes | None], key: str, lowest: int, highest: int) -> int:
    text = _text(txt, key)
    # isdecimal() alone takes other alphabets' digits, and int() takes megabytes of them
    if not (text.isascii() and text.isdecimal() and len(text) <= 10 and lowest <= int(text) <= highest):
        raise ProtocolError(f'"{key}" of the announcement is not a number from {lowest} to {highest}.')
    return int(text)
