"""What an agent's limited link and its prediction have in common."""

from __future__ import annotations

from typing import Final

BURST_SECONDS: Final = 0.002
"""A message may be this much ahead of a limited link: a small one is spared a timer."""
