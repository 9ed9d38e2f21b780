"""The doctor's checks of this machine: packages, keys, interfaces, multicast."""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import socket
import stat
import threading
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import psutil
from zeroconf import Error as ZeroconfError
from zeroconf import IPVersion, ServiceBrowser, ServiceStateChange, Zeroconf

from core import PROTOCOL_VERSION, __version__
from core.cluster.discovery import PROBE_SECONDS, PROBE_TYPE, probe_service
from core.cluster.opening import KEYS_FILE, SHARED_KEY_FILE, workstation_keys
from core.commands.findings import Finding, bad, good, remark
from core.commands.panel import PANEL_PACKAGES
from core.errors import InputError
from core.paths import config_dir

_NODE_PACKAGES: Final = ("numpy", "onnxruntime", "pyzmq", "msgspec", "zeroconf", "psutil", "platformdirs")


def check_packages() -> list[Finding]:
    step = "packages"
    missing = [name for name in _NODE_PACKAGES if _version(name) is None]
    if missing:
        return [bad(step, f"not installed: {', '.join(missing)}", "pip install shardboard")]
    versions = ", ".join(f"{name} {_version(name)}" for name in ("onnxruntime", "pyzmq", "zeroconf"))
    found = [good(step, f"Shardboard {__version__}, protocol {PROTOCOL_VERSION}, {versions}")]
    panel = [name for name in PANEL_PACKAGES if importlib.util.find_spec(name) is None]
    if panel:
        words = f"this machine can be a node but not a workstation: {', '.join(panel)} not installed"
        found.append(remark(step, words, "pip install 'shardboard[gui]' if it should plan and run"))
    return found


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def check_keys() -> list[Finding]:
    step = "keys"
    try:
        keys = workstation_keys()
    except InputError as error:
        return [bad(step, error.message, error.hint)]
    except OSError as error:
        return [bad(step, f"the key in {config_dir()} cannot be made: {error}", "Make the folder writable.")]
    open_to_others = [name for name in (KEYS_FILE, SHARED_KEY_FILE) if _others_can_read(config_dir() / name)]
    if open_to_others:
        files = " ".join(str(config_dir() / name) for name in open_to_others)
        return [bad(step, f"others on this machine can read {files}", f"chmod 600 {files}")]
    return [good(step, f"this workstation is {keys.public[:8]}..., kept in {config_dir()}")]


def _others_can_read(path: Path) -> bool:
    return os.name == "posix" and path.exists() and bool(stat.S_IMODE(path.stat().st_mode) & 0o077)


def check_network() -> list[Finding]:
    interfaces = _interfaces()
    if not interfaces:
        return [bad("network", "no interface but loopback is up", "Connect a cable or join the Wi-Fi.")]
    return [good("network", ", ".join(f"{name} {interface}" for name, interface in interfaces))]


def check_multicast() -> list[Finding]:
    """On every interface by itself: a probe is announced there and must be seen."""
    found = []
    for name, interface in _interfaces():
        step = f"multicast on {name}"
        problem = _probe(str(interface.ip))
        if problem is None:
            found.append(good(step, f"an mDNS probe from {interface.ip} came through"))
        else:
            found.append(
                bad(
                    step,
                    problem,
                    "Let UDP port 5353 through this machine's firewall; on Wi-Fi, switch client isolation off. "
                    "Until then reach nodes by address: --node HOST:PORT.",
                )
            )
    return found


def _interfaces() -> list[tuple[str, ipaddress.IPv4Interface]]:
    """IPv4 interfaces that are up, without loopback."""
    up = {name for name, stats in psutil.net_if_stats().items() if stats.isup}
    return [
        (name, interface)
        for name, addresses in psutil.net_if_addrs().items()
        for address in addresses
        if name in up and address.family == socket.AF_INET and address.netmask
        if not (interface := ipaddress.IPv4Interface(f"{address.address}/{address.netmask}")).is_loopback
    ]


def _probe(address: str) -> str | None:
    """Why mDNS does not work on the interface with this address; None when it does."""
    seen = threading.Event()
    probe = probe_service([address])

    def changed(name: str, state_change: ServiceStateChange, **_more: object) -> None:
        if name == probe.name and state_change is not ServiceStateChange.Removed:
            seen.set()

    try:
        # Two: one that announces and one that looks, so that the probe has to cross the network's multicast.
        with (
            Zeroconf([address], ip_version=IPVersion.V4Only) as announcing,
            Zeroconf([address], ip_version=IPVersion.V4Only) as looking,
        ):
            browser = ServiceBrowser(looking, PROBE_TYPE, handlers=[changed])
            announcing.register_service(probe, ttl=10)
            arrived = seen.wait(PROBE_SECONDS)
            announcing.unregister_service(probe)
            browser.cancel()
    except (OSError, ZeroconfError, RuntimeError) as error:
        return f"mDNS cannot be used: {error or type(error).__name__}"
    return None if arrived else f"an mDNS probe from {address} was not seen within {PROBE_SECONDS:.0f} s"
