"""What agents and their predictions have in common."""

from __future__ import annotations

from typing import Final

BURST_SECONDS: Final = 0.002
"""A message may be this much ahead of a limited link: a small one is spared a timer."""
TICK_SECONDS: Final = 0.001
"""Sockets wait for whole milliseconds: what a limit holds back waits for the next one."""
SHORT_SECONDS: Final = 0.001
"""A shard that takes less runs where its inputs come in; a longer one in a thread of its own."""
