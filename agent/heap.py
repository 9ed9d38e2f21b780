"""Memory that the C library keeps after it was freed.

onnxruntime reorders weights while it loads a graph, and frees what it made on the way: of a model of convolutions as
much as all its weights. glibc keeps blocks of that size for later instead of giving them back to the system.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import cache


def give_back() -> None:
    """Return what is free to the system, where the C library does not do so by itself. Any thread; milliseconds."""
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> Callable[[int], int] | None:
    """glibc's; None: there is another C library."""
    if sys.platform != "linux":
        return None
    found = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if found is not None:
        found.argtypes, found.restype = (ctypes.c_size_t,), ctypes.c_int
    return found
