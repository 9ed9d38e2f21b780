"""What is timed here so that predictions hold: shards of plans, messages, cores side by side. Worker threads."""
# ruff: noqa: PLC0415 - onnx and onnxruntime are imported by the worker: the window is there a second earlier

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from gui.work.predicting import PlanOrder, outline_of

if TYPE_CHECKING:
    from core.cluster.client import Cluster
    from core.cost.messages import MessageCosts
    from core.cost.types import Prediction
    from core.model.graph import Model


def timed_prediction(
    order: PlanOrder,
    *,
    only_kept: bool = False,
    progress: Callable[[float], None] | None = None,
    cancel: threading.Event | None = None,
) -> Prediction | None:
    """What a plan would reach by what its shards take; None where not all of them can be timed.

    ``only_kept``: nothing is run; None where not all of them, or not the whole model beside them, were timed before.
    Raises PlanError where the model cannot be divided so, Cancelled.
    """
    from core.cost.shard_times import time_shards
    from core.plan.timed import predict_timed

    timed = partial(time_shards, order.model, only_kept=only_kept, progress=progress, cancel=cancel)
    told, whole = predict_timed(order.model, outline_of(order, foretold=False), order.costs, timed)
    return told if told.timed and (whole is not None or not only_kept) else None


def kept_message_costs() -> MessageCosts | None:
    """Of this machine; None: they were not measured yet, by this version."""
    from core.cost.kept_messages import kept_message_costs as kept

    return kept()


def measure_messages(
    cluster: Cluster, progress: Callable[[float], None], cancel: threading.Event
) -> MessageCosts | None:
    """Anew, in a turn of its own among what measures nodes and links; None where no agent can be started for it.

    Raises DisturbedError, Cancelled, or what starting an agent raises.
    """
    from core.run.message_costs import can_measure, measure_message_costs

    if not can_measure():
        return None
    with cluster.turn_to_measure(cancel):
        return measure_message_costs(progress, cancel)


def kept_together(model: Model, batch: int, nodes: int) -> float | None:
    """See ``core.cost.side_by_side``; None: it was not measured yet."""
    from core.cost.side_by_side import kept_side_by_side

    return kept_side_by_side(model, batch, nodes)


def measure_together(cluster: Cluster, model: Model, batch: int, nodes: int, cancel: threading.Event) -> float:
    """The same, measured where it is not known, in a turn of its own. Raises Cancelled."""
    from core.cost.side_by_side import speed_side_by_side

    with cluster.turn_to_measure(cancel):
        return speed_side_by_side(model, batch, nodes, cancel)
