"""Sizes, rates and shares as people write them, and back.

Sizes count in 1024s, as memory and disks are spoken of here: "512M" and "512MiB" are both 536,870,912 bytes.
Rates count in 1000s of bits a second, as networks are sold: "100mbit" is 100,000,000 bit/s.
"""

from __future__ import annotations

import math
import re
from typing import Final

from core.errors import InputError

_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([kmgtp])(?:i?b)?|b)?", re.IGNORECASE | re.ASCII)
_RATE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:bits?|b)?(?:/s|ps)?", re.IGNORECASE | re.ASCII)
_PREFIXES: Final = ("", "k", "m", "g", "t", "p")
_LARGEST: Final = 2**62


def parse_bytes(text: str) -> int:
    """Bytes in "512M", "1.5GiB", "2 GB" or "4096". Raises InputError."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise InputError(f'"{text}" is not a size.', hint="Write it like 512M, 2G or 1.5GiB.")
    return _whole(text, float(match[1]) * 1024 ** _PREFIXES.index((match[2] or "").lower()))


def parse_rate(text: str) -> int:
    """Bits a second in "100mbit", "2.5Gbit/s", "54 Mbps" or "9600". Raises InputError."""
    match = _RATE.fullmatch(text.strip())
    if match is None:
        raise InputError(f'"{text}" is not a data rate.', hint="Write it like 100mbit, 1gbit or 500kbit.")
    return _whole(text, float(match[1]) * 1000 ** _PREFIXES.index(match[2].lower()))


def parse_share(text: str) -> float:
    """A share in (0, 1] out of "50%" or "0.5". Raises InputError."""
    stripped = text.strip()
    try:
        share = float(stripped[:-1]) / 100 if stripped.endswith("%") else float(stripped)
    except ValueError:
        share = math.nan
    if not 0 < share <= 1:
        raise InputError(f'"{text}" is not a share.', hint="Write it like 50% or 0.5; more than 0, at most 1.")
    return share


def format_bytes(nbytes: float) -> str:
    """ "0 B", "1023 B", "1.50 KiB", "512 MiB": three figures at least, negative amounts with their sign."""
    return _scaled(nbytes, 1024, ("B", "KiB", "MiB", "GiB", "TiB", "PiB"))


def format_rate(bits_per_s: float) -> str:
    """ "0 bit/s", "100 Mbit/s", "2.50 Gbit/s"."""
    return _scaled(bits_per_s, 1000, ("bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"))


def _whole(text: str, amount: float) -> int:
    if amount > _LARGEST:
        raise InputError(f'"{text}" is too large.')
    return round(amount)


def _scaled(amount: float, base: int, units: tuple[str, ...]) -> str:
    size, step = abs(amount), 0
    # 999.5 and above would be printed as 1000 of the smaller unit
    while size >= base - 0.5 and step < len(units) - 1:
        size, step = size / base, step + 1
    sign = "-" if amount < 0 else ""
    digits = 0 if step == 0 or size >= 99.95 else 1 if size >= 9.995 else 2
    return f"{sign}{size:.{digits}f} {units[step]}"


def format_pace(rate: float) -> str:
    """Items per second: three digits; of more than 999 all that are whole."""
    return f"{rate:.3g}" if rate < 1000 else f"{rate:.0f}"
