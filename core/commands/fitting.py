"""Whether a plan keeps the memory limits of its nodes and the latency asked for; if not, the nearest that does."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial

from msgspec.structs import replace

from core.commands.chosen import Chosen
from core.cost.shard_times import time_shards
from core.errors import DoesNotFitError, PlacementError, ShardboardError
from core.plan.auto import best_for
from core.plan.auto_words import nodes_words
from core.plan.improving import Change, best_changes
from core.plan.misses import lacking, missed
from core.plan.timed import Timed


def misses(chosen: Chosen) -> tuple[str, ...]:
    """What the plan does not keep, in sentences; () where it keeps everything."""
    return missed(chosen.question, chosen.choice.prediction)


def better(chosen: Chosen, stop: threading.Event) -> tuple[Change, ...]:
    """What would make the plan better, or make it fit. Raises Cancelled."""
    timed: Timed | None = partial(time_shards, chosen.question.model, cancel=stop) if chosen.costs.here else None
    return best_changes(chosen.question, chosen.request, timed=timed, cancel=stop)


def nearest_words(chosen: Chosen, changes: Sequence[Change], stop: threading.Event) -> str:
    """What would keep everything: the first of ``changes``, as ``better`` found them, else the best plan there is, else
    what is lacking for any. A sentence. Raises Cancelled."""
    question, request = chosen.question, chosen.request
    if changes:
        return f"Nearest to it: {changes[0].words}."
    try:
        found = best_for(replace(question, batch=request.micro_batch), cancel=stop).request
    except PlacementError as nothing:
        return str(nothing)
    if found == request:  # by sums over layers it does, but not by what its shards take
        return "Nothing that was tried does."
    items = f"in micro-batches of {found.micro_batch}"
    return f"What does: {found.strategy} on {nodes_words(question, found.nodes)}, {items}."


def insist_it_fits(chosen: Chosen, stop: threading.Event) -> None:
    """Before anything is sent. Raises DoesNotFitError where a node lacks memory, PlacementError where the answer would
    come too late; both say the nearest plan that does. Cancelled."""
    words = misses(chosen)
    if not words:
        return
    full = bool(lacking(chosen.choice.prediction, chosen.question.limits))
    kind: type[ShardboardError] = DoesNotFitError if full else PlacementError
    nearest = nearest_words(chosen, better(chosen, stop), stop)
    raise kind(f"Nothing was sent: {' '.join(words)}", hint=f"{nearest} To run it all the same: --anyway.")
