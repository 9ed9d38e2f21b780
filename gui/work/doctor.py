"""Why nodes do not meet. Worker threads."""
# ruff: noqa: PLC0415 - onnx and onnxruntime are imported by the worker: the window is there a second earlier

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from threading import Event
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from core.commands.findings import Finding

LOOK_SECONDS: Final = 3.0


def examine(found: Callable[[Sequence[Finding]], object], cancel: Event) -> list[Finding]:
    """All checks of ``shardboard doctor``, some seconds; ``found`` is told part by part, until ``cancel``."""
    from core.commands.doctor_here import check_keys, check_multicast, check_network, check_packages
    from core.commands.doctor_nodes import check_nodes

    findings: list[Finding] = []
    nodes = partial(check_nodes, LOOK_SECONDS, (), cancel)
    for part in (check_packages, check_keys, check_network, check_multicast, nodes):
        if cancel.is_set():
            break
        some = part()
        found(some)
        findings += some
    return findings
