"""Finds agents by mDNS, and says why when it cannot.

zeroconf's own threads do the work; ``sighted``, ``vanished`` and ``problem`` are called on them. A probe service of
this process, announced under a name of its own and looked for like an agent, tells whether multicast comes through at
all: where even it is not seen, no agent will be.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import secrets
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Final

import psutil
from zeroconf import Error as ZeroconfError
from zeroconf import InterfaceChoice, IPVersion, ServiceBrowser, ServiceInfo, ServiceStateChange, Zeroconf

from core.cluster.announce import SERVICE_TYPE, decode_txt
from core.cluster.effects import Sighting
from core.errors import ProtocolError
from core.plan.form import NodeId

log = logging.getLogger(__name__)

PROBE_TYPE: Final = "_sbprobe._tcp.local."
PROBE_SECONDS: Final = 3.0
_PROBE_TTL: Final = 10
_RESOLVE_MS: Final = 3000
_LOOK_SECONDS: Final = 5.0
"""How often to look whether the machine's addresses have changed: a cable, another Wi-Fi."""
BY_ADDRESS: Final = 'Add nodes by address instead ("Add by address", or --node HOST:PORT).'


class Discovery:
    """Looks for agents from ``start`` to ``close``.

    Args:
        sighted: a node is announced, or its announcement changed.
        vanished: a node withdrew its announcement.
        problem: why nodes are not found by themselves, in words; "" once they are.
    """

    def __init__(
        self,
        sighted: Callable[[Sighting], None],
        vanished: Callable[[NodeId], None],
        problem: Callable[[str], None],
    ) -> None:
        self._sighted = sighted
        self._vanished = vanished
        self._problem = problem
        self._ids: dict[str, NodeId] = {}
        self._probe_seen = threading.Event()
        self._closing = threading.Event()
        self._told = ""
        self._thread = threading.Thread(target=self._run, name="discovery", daemon=True)

    def start(self) -> None:
        """Returns at once."""
        self._thread.start()

    def close(self) -> None:
        """Blocks for well under a second."""
        self._closing.set()
        self._probe_seen.set()
        self._thread.join()

    def _run(self) -> None:
        """One turn for each set of addresses that this machine has: zeroconf binds to those there are at its start."""
        while not self._closing.is_set():
            addresses = own_addresses()
            try:
                self._browse(addresses)
            except (OSError, ZeroconfError, RuntimeError) as error:  # RuntimeError: no interface at all
                self._set_problem(multicast_problem(error if own_networks() else None))
            while own_addresses() == addresses and not self._closing.wait(_LOOK_SECONDS):
                pass

    def _browse(self, addresses: Sequence[str]) -> None:
        """Until the machine's addresses change. Raises what zeroconf raises."""
        self._probe_seen.clear()
        if self._closing.is_set():
            return
        with contextlib.closing(Zeroconf(interfaces=InterfaceChoice.All, ip_version=IPVersion.V4Only)) as zeroconf:
            browser = ServiceBrowser(zeroconf, [SERVICE_TYPE, PROBE_TYPE], handlers=[self._changed])
            try:
                zeroconf.register_service(probe_service(addresses), ttl=_PROBE_TTL)
                self._probe_seen.wait(PROBE_SECONDS)
                self._tell_probe()
                while own_addresses() == addresses and not self._closing.wait(_LOOK_SECONDS):
                    self._tell_probe()
            finally:
                browser.cancel()  # zeroconf's close leaves its thread behind

    def _tell_probe(self) -> None:
        """A probe that came back over the loopback interface alone proves no network."""
        works = self._probe_seen.is_set() and own_networks()
        self._set_problem("" if works else multicast_problem())

    def _set_problem(self, words: str) -> None:
        if words != self._told and not self._closing.is_set():
            self._told = words
            self._problem(words)

    def _changed(self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        if service_type == PROBE_TYPE:
            if state_change is not ServiceStateChange.Removed:
                self._probe_seen.set()
            return
        if state_change is ServiceStateChange.Removed:
            node = self._ids.pop(name, None)
            if node is not None:
                self._vanished(node)
            return
        service = zeroconf.get_service_info(service_type, name, timeout=_RESOLVE_MS)
        if service is None:
            log.info("%s is announced but does not tell its address", name)
            return
        self._resolved(name, service)

    def _resolved(self, name: str, service: ServiceInfo) -> None:
        try:
            said = decode_txt(service.properties)
        except ProtocolError as error:
            log.warning("%s is not announced by the rules: %s", name, error)
            return
        addresses = likeliest_first(service.parsed_addresses(IPVersion.V4Only))
        if not addresses or not service.port:
            log.warning("%s is announced without an address", name)
            return
        self._ids[name] = said.id
        self._sighted(
            Sighting(
                id=said.id,
                name=said.name,
                addresses=addresses,
                control_port=service.port,
                pairing_port=said.pairing_port,
                source="mdns",
                protocol=said.protocol,
                version=said.version,
            )
        )


def likeliest_first(addresses: Sequence[str]) -> tuple[str, ...]:
    """Those in a network of this machine first: an agent announces all its interfaces, also ones we cannot reach."""
    networks = own_networks()

    def rank(address: str) -> tuple[bool, bool]:
        ip = ipaddress.ip_address(address)
        return ip.is_loopback, not any(ip in network for network in networks)

    return tuple(sorted(dict.fromkeys(addresses), key=rank))


def own_networks() -> tuple[ipaddress.IPv4Network, ...]:
    """The IPv4 networks of this machine's interfaces that are up, without loopback."""
    up = {name for name, stats in psutil.net_if_stats().items() if stats.isup}
    found = []
    for name, addresses in psutil.net_if_addrs().items():
        for address in addresses:
            if name in up and address.family == socket.AF_INET and address.netmask:
                interface = ipaddress.IPv4Interface(f"{address.address}/{address.netmask}")
                if not interface.ip.is_loopback:
                    found.append(interface.network)
    return tuple(found)


def multicast_problem(error: Exception | None = None) -> str:
    """Why nodes are not found by themselves, and what to do instead."""
    if not own_networks():
        return f"This machine has no network connection, so no nodes are found by themselves. {BY_ADDRESS}"
    if error is not None:
        return f"mDNS does not work on this machine ({str(error) or type(error).__name__}). {BY_ADDRESS}"
    return (
        "Multicast does not come through on this machine (its own mDNS probe was not seen within "
        f"{PROBE_SECONDS:.0f} s): a firewall that blocks UDP port 5353, or a network without multicast. {BY_ADDRESS}"
    )


def probe_service(addresses: Sequence[str]) -> ServiceInfo:
    """A service of a name of its own that nobody is meant to use."""
    instance = f"probe-{secrets.token_hex(6)}"
    return ServiceInfo(
        PROBE_TYPE,
        f"{instance}.{PROBE_TYPE}",
        port=9,
        properties={},
        server=f"{instance}.local.",
        parsed_addresses=list(addresses) or ["127.0.0.1"],
    )


def own_addresses() -> tuple[str, ...]:
    """IPv4 addresses of this machine but loopback."""
    return tuple(
        address.address
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family == socket.AF_INET and not address.address.startswith("127.")
    )
