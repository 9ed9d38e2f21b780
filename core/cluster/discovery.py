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
from core.cluster.roster import Sighting
from core.errors import ProtocolError
from core.plan.form import NodeId

log = logging.getLogger(__name__)

PROBE_TYPE: Final = "_sbprobe._tcp.local."
PROBE_SECONDS: Final = 3.0
_RESOLVE_MS: Final = 3000
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
        try:
            with contextlib.closing(Zeroconf(interfaces=InterfaceChoice.All, ip_version=IPVersion.V4Only)) as zeroconf:
                self._browse(zeroconf)
        except (OSError, ZeroconfError) as error:
            if not self._closing.is_set():
                self._problem(f"mDNS does not work on this machine ({error or type(error).__name__}). {BY_ADDRESS}")

    def _browse(self, zeroconf: Zeroconf) -> None:
        ServiceBrowser(zeroconf, [SERVICE_TYPE, PROBE_TYPE], handlers=[self._changed])
        probe = probe_service(_own_addresses())
        zeroconf.register_service(probe, ttl=10)
        if not self._probe_seen.wait(PROBE_SECONDS):
            self._problem(multicast_problem())
            self._probe_seen.wait()
            if not self._closing.is_set():
                self._problem("")
        if not self._closing.is_set():
            zeroconf.unregister_service(probe)
        self._closing.wait()

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


def multicast_problem() -> str:
    if not own_networks():
        return f"This machine has no network connection, so no nodes are found by themselves. {BY_ADDRESS}"
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


def _own_addresses() -> list[str]:
    return [
        address.address
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family == socket.AF_INET and not address.address.startswith("127.")
    ]
