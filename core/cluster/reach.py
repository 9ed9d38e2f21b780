"""Plain TCP: does anything take a connection there, and if not, why in words."""

from __future__ import annotations

import contextlib
import ipaddress
import socket

from core.errors import InputError, UnreachableError

DEFAULT_PORT = 7420
"""Where an agent listens for control unless told otherwise; pairing and data are the next two."""


def probe_tcp(host: str, port: int, timeout: float = 2.0) -> None:
    """Raises UnreachableError with words when nothing takes a TCP connection there."""
    try:
        with socket.create_connection((host, port), timeout):
            return
    except (socket.gaierror, UnicodeError):
        hint = "Check the spelling, or use its address."
        raise UnreachableError(f'No machine has the name "{host}".', hint=hint) from None
    except ConnectionRefusedError:
        hint = "Is shardboard-agent running there?"
        raise UnreachableError(f"{host} is there, but nothing listens on port {port}.", hint=hint) from None
    except TimeoutError:
        hint = "Is the machine on, and does its firewall let this port through?"
        raise UnreachableError(f"{host}:{port} does not answer.", hint=hint) from None
    except OSError as error:
        raise UnreachableError(f"{host}:{port} cannot be reached: {error.strerror or error}.") from None


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine itself."""
    if host == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def parse_address(text: str, default_port: int = DEFAULT_PORT) -> tuple[str, int]:
    """Host and port of "HOST", "HOST:PORT", "[IPV6]:PORT" or a bare IPv6 address. Raises InputError."""
    host, port = _split(text.strip())
    if not host or any(c.isspace() or c in "/@[]" for c in host):
        raise InputError(f'"{text}" is not an address.', hint="Write it like 192.168.1.20 or lab-pc:7420.")
    if port is None:
        return host, default_port
    if not (port.isascii() and port.isdecimal() and len(port) < 6 and 1 <= int(port) <= 65535):
        raise InputError(f'"{port}" in "{text}" is not a port: it goes from 1 to 65535.')
    return host, int(port)


def _split(text: str) -> tuple[str, str | None]:
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        return host, rest.removeprefix(":") if rest.startswith(":") else None
    if text.count(":") > 1:
        return text, None
    host, colon, port = text.partition(":")
    return host, port if colon else None
