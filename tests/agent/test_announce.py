"""Announcements: what is read of a stranger's TXT record, and real registrations seen by a real browser."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zeroconf import InterfaceChoice, IPVersion, ServiceBrowser, ServiceListener, Zeroconf
from zmq.utils import z85

from agent.announce import Announcement, own_addresses
from core import PROTOCOL_VERSION
from core.cluster.announce import (
    SERVICE_TYPE,
    NodeAnnouncement,
    clean_name,
    decode_txt,
    encode_txt,
    instance_name,
)
from core.errors import ProtocolError
from core.plan.form import NodeId
from core.wire.messages import NodeInfo
from tests.counting import calls_of

KEY = NodeId("rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7")
OTHER_KEY = NodeId(z85.encode(bytes(range(32))).decode())
GOOD: dict[bytes, bytes | None] = {
    b"id": KEY.encode(),
    b"name": "Käthe's Pi".encode(),
    b"version": b"0.1.0",
    b"protocol": b"1",
    b"pair": b"7421",
    b"data": b"7422",
}


def test_a_good_record_is_read() -> None:
    assert decode_txt(GOOD) == NodeAnnouncement(KEY, "Käthe's Pi", "0.1.0", 1, 7421, 7422)


def test_keys_of_later_versions_are_ignored_and_pairing_is_optional() -> None:
    assert decode_txt({**GOOD, b"colour": b"\xff\xfe", b"flag": None}) == decode_txt(GOOD)
    assert decode_txt({key: value for key, value in GOOD.items() if key != b"pair"}).pairing_port is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"id", None),
        (b"id", b""),
        (b"id", KEY.encode()[:-1]),
        (b"id", KEY.encode() + b"\n"),
        (b"id", b"#" * 40),
        (b"id", b'"' + KEY.encode()[1:]),
        (b"name", b""),
        (b"name", b"\xff\xfe"),
        (b"name", b"a\nb"),
        (b"name", b"\x1b[2J"),
        (b"name", b"x" * 64),
        (b"version", b""),
        (b"version", b"1" * 33),
        (b"version", b"1 0"),
        (b"version", b"<b>"),
        (b"protocol", b"-1"),
        (b"protocol", b"1.0"),
        (b"protocol", b"9" * 5000),
        (b"protocol", "١".encode()),
        (b"data", b"0"),
        (b"data", b"65536"),
        (b"data", b"7e3"),
        (b"pair", b"x"),
        (b"pair", b"99999"),
    ],
)
def test_a_bad_value_is_refused_by_name(key: bytes, value: bytes | None) -> None:
    with pytest.raises(ProtocolError, match=f'"{key.decode()}"'):
        decode_txt({**GOOD, key: value})


@pytest.mark.parametrize("key", [b"id", b"name", b"version", b"protocol", b"data"])
def test_a_missing_key_is_named(key: bytes) -> None:
    with pytest.raises(ProtocolError, match=f'lacks "{key.decode()}"'):
        decode_txt({k: v for k, v in GOOD.items() if k != key})


@given(st.dictionaries(st.sampled_from([*GOOD, b"other"]), st.one_of(st.none(), st.binary(max_size=80))))
def test_any_record_is_read_or_refused(txt: Mapping[bytes, bytes | None]) -> None:
    merged = {**GOOD, **txt}
    try:
        assert isinstance(decode_txt(merged), NodeAnnouncement)
    except ProtocolError as error:
        words = error.message
        assert "announcement" in words


PORTS = st.integers(1, 65535)


@given(
    st.binary(min_size=32, max_size=32),
    st.text(max_size=100),
    st.integers(0, 2**31 - 1),
    st.one_of(st.none(), PORTS),
    PORTS,
)
def test_what_is_written_is_read(key: bytes, name: str, protocol: int, pair: int | None, data: int) -> None:
    announcement = NodeAnnouncement(NodeId(z85.encode(key).decode()), clean_name(name), "0.1.0", protocol, pair, data)
    txt: dict[bytes, bytes | None] = {k.encode(): v.encode() for k, v in encode_txt(announcement).items()}
    assert decode_txt(txt) == announcement


@given(st.text(max_size=200))
def test_any_host_name_becomes_a_name_and_an_instance(text: str) -> None:
    name = clean_name(text)
    assert name == clean_name(name)
    assert name.isprintable()
    assert 1 <= len(name.encode()) <= 63
    label = instance_name(text, KEY).removesuffix(f".{SERVICE_TYPE}")
    assert 1 <= len(label.encode()) <= 59
    assert "." not in label


def test_a_node_does_not_announce_nonsense() -> None:
    with pytest.raises(ProtocolError, match='"id"'):
        Announcement(info("short"), 7420, 7421, "pi")


# ---------------------------------------------------------------- on this machine's network


def info(key: str = KEY, data_port: int = 7422) -> NodeInfo:
    return NodeInfo(
        id=NodeId(key), name="pi", version="0.1.0", hostname="h", system="s", cpu="c", cores=1, threads=1,
        memory_total=1, memory_limit=1, cpu_limit=1.0, link_limit=0, data_port=data_port, engine="e",
    )  # fmt: skip


@dataclass
class Seen(ServiceListener):
    """What a panel's browser would know, by instance name."""

    nodes: dict[str, tuple[NodeAnnouncement, int, tuple[str, ...]]] = field(default_factory=dict)

    def add_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        service = zc.get_service_info(type_, name, timeout=30_000)
        if service is not None:
            addresses = tuple(sorted(service.parsed_addresses(IPVersion.V4Only)))
            self.nodes[name] = (decode_txt(service.properties), service.port or 0, addresses)

    update_service = add_service

    def remove_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        self.nodes.pop(name, None)


def until(condition: Callable[[], object], seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.02)


@pytest.fixture
def seen() -> Iterator[Seen]:
    try:
        zeroconf = Zeroconf(interfaces=InterfaceChoice.All, ip_version=IPVersion.V4Only)
    except OSError as error:
        pytest.skip(f"multicast does not work here: {error}")
    listener = Seen()
    browser = ServiceBrowser(zeroconf, SERVICE_TYPE, listener)
    yield listener
    browser.cancel()
    zeroconf.close()


def test_a_node_is_seen_with_all_it_said_and_gone_when_it_closes(seen: Seen) -> None:
    announcement = Announcement(info(), 7420, 7421, "test pi")
    assert announcement.start() is None
    name = announcement.instance
    assert name == instance_name("test pi", KEY)
    until(lambda: name in seen.nodes)
    assert seen.nodes[name] == (
        NodeAnnouncement(KEY, "test pi", "0.1.0", PROTOCOL_VERSION, 7421, 7422),
        7420,
        tuple(sorted(own_addresses())),
    )
    announcement.close()
    until(lambda: name not in seen.nodes)
    announcement.close()


def test_two_nodes_of_one_name_that_start_together_both_show(seen: Seen) -> None:
    first = Announcement(info(), 7420, None, "twin")
    second = Announcement(info(OTHER_KEY, 8422), 8420, None, "twin")
    problems: list[str | None] = []
    starting = [threading.Thread(target=lambda a=a: problems.append(a.start())) for a in (first, second)]
    try:
        for thread in starting:
            thread.start()
        for thread in starting:
            thread.join(timeout=60)
        assert problems == [None, None]
        assert first.instance != second.instance
        until(lambda: {first.instance, second.instance} <= set(seen.nodes))
        assert {seen.nodes[a.instance][0].id for a in (first, second)} == {KEY, OTHER_KEY}
        assert {seen.nodes[a.instance][1] for a in (first, second)} == {7420, 8420}
    finally:
        first.close()
        second.close()


def test_refresh_does_nothing_while_the_addresses_stay(seen: Seen) -> None:
    announcement = Announcement(info(), 7420, None, "steady")
    try:
        assert announcement.start() is None
        looking = calls_of(own_addresses)
        assert calls_of(announcement.refresh) < looking + 10
        assert announcement.refresh() is None
    finally:
        announcement.close()


def test_own_addresses_are_reachable_ones() -> None:
    addresses = own_addresses()
    assert addresses
    assert len(set(addresses)) == len(addresses)
    assert all(not address.startswith("127.") for address in addresses) or all(a.startswith("127.") for a in addresses)


ISOLATED = """
import sys
from tests.agent.test_announce import info
from agent.announce import Announcement
announcement = Announcement(info(), 7420, 7421, "alone")
print(announcement.start() or "announced")
announcement.close()
"""


@pytest.mark.parametrize(("setup", "words"), [("true", "no network address"), ("ip link set lo up", "")])
def test_a_machine_without_a_network_says_so(setup: str, words: str) -> None:
    if not sys.platform.startswith("linux") or not shutil.which("unshare"):
        pytest.skip("needs Linux network namespaces")
    result = subprocess.run(
        ["unshare", "--net", "sh", "-c", f"{setup} && exec {sys.executable} -c '{ISOLATED}'"],
        check=False, capture_output=True, text=True, timeout=90,
    )  # fmt: skip
    if "unshare" in result.stderr:
        pytest.skip(f"no network namespace can be made here: {result.stderr.strip()}")
    assert result.returncode == 0, result.stderr
    assert words in result.stdout
    assert result.stderr == ""
