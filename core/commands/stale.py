"""Nodes that are no longer what they were measured to be, or are predicted otherwise than they were measured."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Final

from core.cluster.node import Node
from core.plan.form import NodeId
from core.run.calibration import Calibration

MEASURE_AGAIN: Final = "To measure again: shardboard nodes --measure"


def stale_words(stale: Mapping[NodeId, Sequence[str]], nodes: Sequence[Node]) -> tuple[str, ...]:
    """A sentence for each reason why a node's benchmark no longer holds, and what to do. ``stale``: clauses by node."""
    return tuple(f"{node.name} {reason}. {MEASURE_AGAIN}" for node in nodes for reason in stale.get(node.id, ()))


def calibrated_words(calibrations: Sequence[Calibration], nodes: Sequence[Node]) -> tuple[str, ...]:
    """That predictions follow an earlier run, and how that ends; nothing where they do not. ``calibrations`` are of one
    model and of some of ``nodes``."""
    if not calibrations:
        return ()
    names = {node.id: node.name for node in nodes}
    told = [f"{names[one.node]} at {one.factor:.2f} of its speed" for one in calibrations]
    if any(one.messages != 1.0 for one in calibrations):
        told.append(f"messages at {calibrations[-1].messages:.2f} of their cost")
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(max(one.when for one in calibrations)))
    return (f"Predictions follow a run of {when}: {', '.join(told)} as measured. {MEASURE_AGAIN}",)
