"""The command line of ``shardboard-agent``."""

from __future__ import annotations

import argparse
import ipaddress
import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

from msgspec import Struct

from agent.limits import LOWEST_CPU, LOWEST_LINK
from core import __version__
from core.cluster.announce import clean_name
from core.errors import InputError
from core.units import parse_bytes, parse_rate, parse_share

DEFAULT_PORT: Final = 7420
DEFAULT_BLOB_LIMIT: Final = 20 * 1024**3
_SMALLEST_MEMORY: Final = 16 * 1024**2

_EXAMPLE: Final = """\
examples:
  shardboard-agent
      take part in the cluster; a pairing code is printed for the first workstation
  shardboard-agent --name pi-1 --threads 2 --memory-limit 1G
      leave half of a Raspberry Pi to others
  shardboard-agent --cpu-limit 50% --link-limit 100mbit
      a slower machine, for a demonstration
"""

_T = TypeVar("_T")


class Options(Struct, frozen=True, kw_only=True):
    name: str
    bind: str
    """IPv4 address; 0.0.0.0: all interfaces."""
    port: int
    """Control port; 0: any free one."""
    threads: int
    """At least 1."""
    memory_limit: int | None
    """Bytes; None: all of the machine's."""
    cpu_limit: float
    """0.01..1."""
    link_limit: int
    """Bits per second; 0: unlimited."""
    state_dir: Path | None
    """None: the user's data folder."""
    key_file: Path | None
    announce: bool
    pin: int | None
    """Logical core number."""
    ready_json: bool
    exit_with_stdin: bool
    blob_limit: int
    """Bytes."""


def parse_options(argv: Sequence[str] | None = None) -> Options:
    """Read ``argv`` (sys.argv[1:] when None). Exits with 2 and words on stderr when it makes no sense."""
    given = _parser().parse_args(argv)
    threads = given.threads or (1 if given.pin is not None else usable_cores())
    return Options(
        name=given.name or clean_name(socket.gethostname()),
        bind=given.bind,
        port=given.port,
        threads=threads,
        memory_limit=given.memory_limit,
        cpu_limit=given.cpu_limit,
        link_limit=given.link_limit,
        state_dir=given.state_dir,
        key_file=given.key_file,
        announce=given.announce,
        pin=given.pin,
        ready_json=given.ready_json,
        exit_with_stdin=given.exit_with_stdin,
        blob_limit=given.blob_limit,
    )


def usable_cores() -> int:
    """Logical cores this process may run on (containers and taskset narrow them)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="shardboard-agent",
        description="Makes this machine a node of a Shardboard cluster: it waits for shards of a model and runs them.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_network(parser.add_argument_group("network"))
    _add_limits(parser.add_argument_group("limits"))
    _add_files(parser.add_argument_group("files and keys"))
    _add_launching(parser.add_argument_group("for programs that start agents"))
    parser.add_argument("--version", action="version", version=f"shardboard-agent {__version__}")
    return parser


def _add_network(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--name", type=_name, metavar="NAME", help="what people call this node (default: the host name)")
    group.add_argument(
        "--bind",
        type=_address,
        default="0.0.0.0",  # noqa: S104
        metavar="ADDRESS",
        help="IPv4 address to listen on (default: 0.0.0.0, all interfaces)",
    )
    group.add_argument(
        "--port",
        type=_whole("port", 0, 65533),
        default=DEFAULT_PORT,
        metavar="PORT",
        help=f"control port; pairing and data use the next two; 0: any free ports (default: {DEFAULT_PORT})",
    )
    group.add_argument(
        "--no-announce",
        dest="announce",
        action="store_false",
        help="do not announce this node over mDNS; it is then reached by address only",
    )


def _add_limits(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--threads",
        type=_whole("thread count", 1, 1024),
        metavar="N",
        help=f"threads a shard runs on (default: all cores, here {usable_cores()}; 1 with --pin)",
    )
    group.add_argument(
        "--pin", type=_core, metavar="CORE", help="run on this logical core only (default: wherever the system likes)"
    )
    group.add_argument(
        "--memory-limit",
        type=_sized(_SMALLEST_MEMORY),
        metavar="SIZE",
        help="refuse shards that would need more than this, like 512M or 2G (default: the machine's memory)",
    )
    group.add_argument(
        "--cpu-limit",
        type=_share,
        default=1.0,
        metavar="SHARE",
        help="compute at most this share of the time, like 50%% or 0.5 (default: 100%%)",
    )
    group.add_argument(
        "--link-limit",
        type=_rate,
        default=0,
        metavar="RATE",
        help="send and receive tensors no faster than this, like 100mbit or 1gbit (default: no limit)",
    )
    group.add_argument(
        "--blob-limit",
        type=_sized(1024**2),
        default=DEFAULT_BLOB_LIMIT,
        metavar="SIZE",
        help="disk space for weights; the least recently used make room (default: 20G)",
    )


def _add_files(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--state-dir",
        type=Path,
        metavar="DIR",
        help="where keys, trusted workstations and weights are kept (default: the user's data folder)",
    )
    group.add_argument(
        "--key-file",
        type=Path,
        metavar="FILE",
        help="shared key: whoever has this file may use the node without a pairing code",
    )


def _add_launching(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--ready-json",
        action="store_true",
        help="print one line of JSON on stdout when listening: id, name, control_port, data_port, pairing_port, pid",
    )
    group.add_argument("--exit-with-stdin", action="store_true", help="quit when standard input is closed")


def _checked(parse: Callable[[str], _T], text: str) -> _T:
    try:
        return parse(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _whole(what: str, lowest: int, highest: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and len(text) < 10 and lowest <= int(text) <= highest):
            raise argparse.ArgumentTypeError(f'"{text}" is not a {what}; it goes from {lowest} to {highest}')
        return int(text)

    return parse


def _sized(lowest: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        size = _checked(parse_bytes, text)
        if size < lowest:
            raise argparse.ArgumentTypeError(f'"{text}" is too small; the least is {lowest // 1024**2}M')
        return size

    return parse


def _share(text: str) -> float:
    share = _checked(parse_share, text)
    if share < LOWEST_CPU:
        raise argparse.ArgumentTypeError(f'"{text}" is too small; the least is {LOWEST_CPU:.0%}')
    return share


def _rate(text: str) -> int:
    rate = _checked(parse_rate, text)
    if 0 < rate < LOWEST_LINK:
        raise argparse.ArgumentTypeError(f'"{text}" is too small; the least is {LOWEST_LINK} bit/s, 0 is no limit')
    return rate


def _address(text: str) -> str:
    if text == "*":
        return "0.0.0.0"  # noqa: S104
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f'"{text}" is not an IPv4 address, like 192.168.1.20') from None


def _name(text: str) -> str:
    if not text or text != clean_name(text):
        raise argparse.ArgumentTypeError(f'"{text}" is not a name: 1 to 63 bytes of printable text on one line')
    return text


def _core(text: str) -> int:
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) in cores):
        raise argparse.ArgumentTypeError(f'"{text}" is not a core this process may use: {", ".join(map(str, cores))}')
    return int(text)
