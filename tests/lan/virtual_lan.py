"""A LAN of network namespaces on one Linux machine, joined by veth pairs and a bridge. Needs root.

Multicast crosses it, links can be shaped (``tc tbf``) and cut, and every host has an address of its own.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

_numbers = itertools.count()


def why_not() -> str | None:
    """Why no virtual LAN can be built here, or None."""
    if sys.platform != "linux":
        return "network namespaces exist on Linux only"
    if os.geteuid() != 0:
        return "network namespaces need root"
    if not shutil.which("ip") or not shutil.which("tc"):
        return "iproute2 (ip, tc) is not installed"
    probe = f"sbprobe{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"ip netns add: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "delete", probe], check=True)
    return None


class VirtualLan:
    """``hosts`` namespaces with addresses 10.77.0.1, 10.77.0.2, ...; remove with close() or as a context manager."""

    def __init__(self, hosts: int) -> None:
        tag = f"sb{os.getpid() % 100000}{next(_numbers)}"
        self._hub = f"{tag}h"
        self._names = [f"{tag}n{i}" for i in range(hosts)]
        self._processes: list[subprocess.Popen[str]] = []
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def _build(self) -> None:
        _ip("netns", "add", self._hub)
        _ip("-n", self._hub, "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
        _ip("-n", self._hub, "link", "set", "br0", "up")
        for i, name in enumerate(self._names):
            _ip("netns", "add", name)
            _ip("link", "add", "eth0", "netns", name, "type", "veth", "peer", "name", f"p{i}", "netns", self._hub)
            _ip("-n", self._hub, "link", "set", f"p{i}", "master", "br0", "up")
            _ip("-n", name, "addr", "add", f"{self.address(i)}/24", "brd", "+", "dev", "eth0")
            _ip("-n", name, "link", "set", "lo", "up")
            _ip("-n", name, "link", "set", "eth0", "up")
            _ip("-n", name, "route", "add", "224.0.0.0/4", "dev", "eth0")

    def address(self, host: int) -> str:
        return f"10.77.0.{host + 1}"

    def start(self, host: int, command: Sequence[str], *, env: Mapping[str, str], log: Path) -> subprocess.Popen[str]:
        """Start a process on a host; it is ended with the LAN. stdout and stderr go to ``log``."""
        with log.open("a") as out:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self._names[host], *command],
                env={**os.environ, **env},
                stdout=out,
                stderr=subprocess.STDOUT,
                text=True,
            )
        self._processes.append(process)
        return process

    def run(
        self, host: int, command: Sequence[str], *, env: Mapping[str, str], timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """Run a process on a host to its end."""
        return subprocess.run(
            ["ip", "netns", "exec", self._names[host], *command],
            env={**os.environ, **env},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def shape(self, host: int, rate: str) -> None:
        """Limit what leaves the host and what comes to it, e.g. to "100mbit"."""
        tbf = ["tbf", "rate", rate, "burst", "64kb", "latency", "400ms"]
        for namespace, device in ((self._names[host], "eth0"), (self._hub, f"p{host}")):
            subprocess.run(["tc", "-n", namespace, "qdisc", "replace", "dev", device, "root", *tbf], check=True)

    def cut(self, host: int) -> None:
        """Pull the plug of the host's network cable."""
        _ip("-n", self._hub, "link", "set", f"p{host}", "down")

    def mend(self, host: int) -> None:
        _ip("-n", self._hub, "link", "set", f"p{host}", "up")

    def close(self) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for name in [*self._names, self._hub]:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}")
