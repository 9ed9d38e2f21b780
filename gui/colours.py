"""Every colour of the panel: two sets of tokens (dark and light) and the node colours.

Node colours follow Okabe and Ito's palette, which people with any common colour blindness can tell apart; a few are
moved in lightness so that each stands out on its background.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from PySide6.QtGui import QColor


@dataclass(frozen=True)
class Tokens:
    """Named colours, as #rrggbb, of one theme."""

    dark: bool
    window: str
    """Behind everything."""
    rail: str
    surface: str
    """Cards, tables."""
    raised: str
    """Buttons, headers, hovered rows."""
    sunken: str
    """Input fields, plot backgrounds."""
    border: str
    border_strong: str
    text: str
    muted: str
    """Secondary text."""
    faint: str
    """Disabled text, axis ticks."""
    accent: str
    accent_hover: str
    accent_soft: str
    """Background of what is selected."""
    on_accent: str
    good: str
    good_soft: str
    warn: str
    warn_soft: str
    bad: str
    bad_soft: str
    grid: str
    nodes: tuple[str, ...]


DARK: Final = Tokens(
    dark=True,
    window="#15171c",
    rail="#111317",
    surface="#1c1f26",
    raised="#262a33",
    sunken="#17191f",
    border="#2b303a",
    border_strong="#414957",
    text="#e7eaf0",
    muted="#a3acba",
    faint="#707a8a",
    accent="#6aa5ff",
    accent_hover="#86b6ff",
    accent_soft="#233048",
    on_accent="#0c1524",
    good="#4cc38a",
    good_soft="#1b332b",
    warn="#e5ad45",
    warn_soft="#382d19",
    bad="#f4716c",
    bad_soft="#3d2324",
    grid="#2a2f39",
    nodes=("#56b4e9", "#e69f00", "#2fb98d", "#cc79a7", "#f0e442", "#e8743b", "#8f9bff", "#b3bac6"),
)

LIGHT: Final = Tokens(
    dark=False,
    window="#f4f5f8",
    rail="#eaecf1",
    surface="#ffffff",
    raised="#eff1f5",
    sunken="#fafbfc",
    border="#dfe3ea",
    border_strong="#c3c9d4",
    text="#1b1f27",
    muted="#566070",
    faint="#8a93a2",
    accent="#2563d8",
    accent_hover="#1d53bb",
    accent_soft="#dfe9fb",
    on_accent="#ffffff",
    good="#137a56",
    good_soft="#def3ea",
    warn="#9a5f00",
    warn_soft="#fbeed6",
    bad="#c22f2c",
    bad_soft="#fbe3e2",
    grid="#e6e9ef",
    nodes=("#2f92d0", "#e69f00", "#009e73", "#c86a9c", "#bfae00", "#d55e00", "#4d63d6", "#76808f"),
)


def node_colour(tokens: Tokens, slot: int) -> QColor:
    """Colour of the node in ``slot`` (0 first). Past the palette's end the same hues come again, darker or lighter."""
    palette = tokens.nodes
    colour = QColor(palette[slot % len(palette)])
    for _ in range(slot // len(palette)):
        colour = colour.darker(135) if tokens.dark else colour.lighter(135)
    return colour


def text_on(colour: QColor) -> QColor:
    """Black or white, whichever is easier to read on ``colour``."""
    luminance = 0.2126 * colour.redF() ** 2.2 + 0.7152 * colour.greenF() ** 2.2 + 0.0722 * colour.blueF() ** 2.2
    return QColor("#10131a") if luminance > 0.22 else QColor("#ffffff")


def blend(over: QColor, under: QColor, share: float) -> QColor:
    """``share`` of ``over`` laid on an opaque ``under``."""
    keep = 1.0 - share
    return QColor.fromRgbF(
        over.redF() * share + under.redF() * keep,
        over.greenF() * share + under.greenF() * keep,
        over.blueF() * share + under.blueF() * keep,
    )
