"""Tells the LAN that this agent is here, over mDNS, on every interface."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from typing import Final

import psutil
from zeroconf import Error as ZeroconfError
from zeroconf import InterfaceChoice, IPVersion, ServiceInfo, Zeroconf

from core import PROTOCOL_VERSION
from core.cluster.announce import SERVICE_TYPE, NodeAnnouncement, clean_name, encode_txt, instance_name
from core.wire.messages import NodeInfo

_BY_ADDRESS: Final = "Other machines reach this node by its address: {hosts}, port {port}."


class Announcement:
    """One registration of this agent. ``start`` and ``close`` block for up to 2 s: call them off the I/O threads."""

    def __init__(self, info: NodeInfo, control_port: int, pairing_port: int | None, name: str) -> None:
        self._control_port = control_port
        self._txt = encode_txt(
            NodeAnnouncement(info.id, clean_name(name), info.version, PROTOCOL_VERSION, pairing_port, info.data_port)
        )
        self._instance = instance_name(name, info.id)
        # Two nodes may share a hostname, or lack one: the id keeps the address records apart.
        self._host = f"shardboard-{info.id.encode().hex()[:16]}.local."
        self._zeroconf: Zeroconf | None = None
        self._service: ServiceInfo | None = None
        self._addresses: tuple[str, ...] = ()

    @property
    def instance(self) -> str:
        """The full instance name that was registered."""
        return self._service.name if self._service is not None else self._instance

    def start(self) -> str | None:
        """Register; None when announced, else what prevents it, in words. Nothing is left open then."""
        self._addresses = own_addresses()
        if not self._addresses:
            return "This machine has no network address, so it is not announced. Connect it to the network."
        try:
            self._zeroconf = Zeroconf(interfaces=InterfaceChoice.All, ip_version=IPVersion.V4Only)
            self._service = self._new_service()
            self._zeroconf.register_service(self._service, allow_name_change=True)
        except (OSError, ZeroconfError) as error:
            self.close()
            reason = str(error) or type(error).__name__
            where = _BY_ADDRESS.format(hosts=", ".join(self._addresses), port=self._control_port)
            return f"This node is not announced, because mDNS does not work here ({reason}). {where}"
        return None

    def refresh(self) -> str | None:
        """Announce again if the machine's addresses have changed (a cable, another Wi-Fi). Answers as ``start``."""
        if own_addresses() == self._addresses:
            return None
        self.close()
        return self.start()

    def close(self) -> None:
        """Say goodbye, so that others drop this node at once, and stop. Safe to call twice."""
        zeroconf, self._zeroconf = self._zeroconf, None
        self._service = None
        if zeroconf is not None:
            # The network may be gone by now: others then notice by their heartbeats.
            with contextlib.suppress(OSError, ZeroconfError):
                zeroconf.close()

    def _new_service(self) -> ServiceInfo:
        return ServiceInfo(
            SERVICE_TYPE,
            self._instance,
            port=self._control_port,
            properties=dict(self._txt),
            server=self._host,
            parsed_addresses=list(self._addresses),
        )


def own_addresses() -> tuple[str, ...]:
    """IPv4 addresses of the interfaces that are up, sorted; loopback only where there is nothing else."""
    up = {name for name, stats in psutil.net_if_stats().items() if stats.isup}
    found = {
        ipaddress.IPv4Address(address.address)
        for name, addresses in psutil.net_if_addrs().items()
        if name in up
        for address in addresses
        if address.family == socket.AF_INET
    }
    outside = sorted(address for address in found if not address.is_loopback)
    return tuple(str(address) for address in outside or sorted(found))
