"""What a node runs, in words: under strategies that divide layers that is many shards, one for each step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from PySide6.QtCore import QCoreApplication

from core.plan.form import Shard
from core.wire.messages import ShardLoad

NAMED: Final = 2


def shards_words(shards: Iterable[Shard]) -> str:
    """The labels of a node's shards: ``layers 1-58``, or ``layers 1-3 and 24 more steps``."""
    labels = list(dict.fromkeys(shard.label for shard in shards))
    if len(labels) <= NAMED:
        return ", ".join(labels)
    more = QCoreApplication.translate("shards", "{0} and %n more step(s)", None, len(labels) - 1)
    return more.format(labels[0])


def items_per_s(loads: Sequence[ShardLoad]) -> float:
    """Items that a node handles per second: each goes through all of its shards, or through one of its replicas."""
    return max((load.items_per_s for load in loads), default=0.0)
