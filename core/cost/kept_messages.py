"""What messages cost on this machine, as it was measured (``core.run.message_costs``), kept between programs."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Final

import msgspec
import onnxruntime as ort

from core.cost.messages import MessageCosts
from core.paths import cache_dir
from core.wire.sockets import TRANSPORT

REVISION: Final = 2
"""Raised when they are measured otherwise."""


class _Kept(msgspec.Struct, frozen=True):
    revision: int
    transport: str
    onnxruntime: str
    processors: int
    costs: MessageCosts


def kept_message_costs() -> MessageCosts | None:
    """None: not measured yet, or on another machine, by another version."""
    try:
        held = msgspec.json.decode(_path().read_bytes(), type=_Kept)
    except (OSError, msgspec.DecodeError):
        return None
    return held.costs if held == _kept(held.costs) else None


def keep_message_costs(costs: MessageCosts) -> None:
    path = _path()
    partial = path.with_suffix(f".{os.getpid()}.{threading.get_ident()}")
    partial.write_bytes(msgspec.json.encode(_kept(costs)))
    partial.replace(path)


def _kept(costs: MessageCosts) -> _Kept:
    return _Kept(REVISION, TRANSPORT, ort.__version__, os.cpu_count() or 1, costs)


def _path() -> Path:
    return cache_dir() / "message-costs.json"
