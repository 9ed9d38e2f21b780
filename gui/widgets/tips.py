"""Rich text at the mouse: parts below one another, of which some are not to be broken."""

from __future__ import annotations

from typing import Final

WHOLE: Final = '<div style="white-space:nowrap">'


def whole(html: str) -> str:
    """A line that is never broken, neither within a node's name nor within "items/s"."""
    return f"{WHOLE}{html}</div>"


def stacked(*parts: str) -> str:
    """What is not empty of ``parts``, each on lines of its own."""
    return "".join(part if part.startswith(WHOLE) else f"<div>{part}</div>" for part in parts if part)
