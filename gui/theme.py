"""The panel's look: palette, style sheet, icons, and the switch between dark and light.

One :class:`Theme` belongs to the application object; ``Theme.of()`` finds it from anywhere on the GUI thread. Widgets
that paint themselves read ``Theme.of().tokens`` and repaint on ``changed``.
"""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Final

from PySide6.QtCore import QByteArray, QObject, QPointF, QRectF, QSettings, QSize, Qt, QTemporaryDir, Signal
from PySide6.QtGui import QColor, QFont, QFontInfo, QIcon, QPainter, QPalette, QPen, QPixmap, QPolygonF
from PySide6.QtSvg import QSvgRenderer
from PySide6.QtWidgets import QApplication

from gui.colours import DARK, LIGHT, Tokens
from gui.stylesheet import stylesheet
from resources import resource_path

XS: Final = 4
S: Final = 8
M: Final = 12
L: Final = 16
XL: Final = 24
"""Spacing, in device-independent pixels; use these and no others."""
RADIUS: Final = 8
APP_ICON: Final = "shardboard"
"""The only icon with colours of its own."""
ICON_SIZES: Final = (16, 20, 24, 32, 48)


class Mode(enum.Enum):
    SYSTEM = "system"
    DARK = "dark"
    LIGHT = "light"


class Theme(QObject):
    """Colours, icons and fonts of the application. GUI thread only."""

    changed = Signal()

    def __init__(self, app: QApplication) -> None:
        super().__init__(app)
        self._app = app
        self._icons: dict[tuple[str, str], QIcon] = {}
        self._marks = QTemporaryDir()
        self._base = max(13, min(18, QFontInfo(app.font()).pixelSize()))
        saved = str(QSettings().value("theme", Mode.SYSTEM.value, type=str))
        self.mode = Mode(saved) if saved in {m.value for m in Mode} else Mode.SYSTEM
        self.tokens: Tokens = DARK
        app.setStyle("Fusion")
        app.styleHints().colorSchemeChanged.connect(self._system_changed)
        self._apply()

    @classmethod
    def of(cls) -> Theme:
        """The application's theme; made on the first call."""
        app = QApplication.instance()
        assert isinstance(app, QApplication), "a QApplication comes before the theme"
        return app.findChild(cls) or cls(app)

    @property
    def base(self) -> int:
        """Pixel size of ordinary text."""
        return self._base

    def set_mode(self, mode: Mode) -> None:
        self.mode = mode
        QSettings().setValue("theme", mode.value)
        self._apply()

    def colour(self, token: str) -> QColor:
        """The colour of a token by name, as in ``colour("accent")``."""
        return QColor(getattr(self.tokens, token))

    def font(self, step: int = 0, *, bold: bool = False, mono: bool = False) -> QFont:
        """The application's font, ``step`` pixels larger or smaller than ordinary text."""
        font = QFont(self._app.font())
        if mono:
            font.setFamilies(["JetBrains Mono", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace"])
            font.setStyleHint(QFont.StyleHint.Monospace)
        font.setPixelSize(self._base + step)
        font.setWeight(QFont.Weight.DemiBold if bold else QFont.Weight.Normal)
        return font

    def icon(self, name: str, ink: str = "muted") -> QIcon:
        """The line icon ``name`` of resources/icons, tinted with a token's colour."""
        colour = getattr(self.tokens, ink)
        key = (name, colour)
        if key not in self._icons:
            self._icons[key] = self._make_icon(name, QColor(colour))
        return self._icons[key]

    def pixmap(self, name: str, size: int, ink: str = "muted", ratio: float = 1.0) -> QPixmap:
        return tinted(name, size, self.colour(ink), ratio)

    def _system_changed(self) -> None:
        if self.mode is Mode.SYSTEM:
            self._apply()

    def _apply(self) -> None:
        self.tokens = DARK if self._wants_dark() else LIGHT
        self._app.setPalette(palette(self.tokens))
        marks = draw_marks(Path(self._marks.path()), self.tokens)
        self._app.setStyleSheet(stylesheet(self.tokens, self._base, marks))
        self.changed.emit()

    def _wants_dark(self) -> bool:
        if self.mode is Mode.SYSTEM:
            return self._app.styleHints().colorScheme() != Qt.ColorScheme.Light
        return self.mode is Mode.DARK

    def _make_icon(self, name: str, colour: QColor) -> QIcon:
        icon = QIcon()
        disabled = QColor(self.tokens.faint)
        for size in ICON_SIZES:
            for ratio in (1.0, 2.0):
                icon.addPixmap(tinted(name, size, colour, ratio), QIcon.Mode.Normal)
                icon.addPixmap(tinted(name, size, disabled, ratio), QIcon.Mode.Disabled)
        return icon


def palette(t: Tokens) -> QPalette:
    """The Qt palette of a set of tokens, for whatever the style sheet leaves to the style."""
    p = QPalette()
    roles = {
        QPalette.ColorRole.Window: t.window,
        QPalette.ColorRole.WindowText: t.text,
        QPalette.ColorRole.Base: t.sunken,
        QPalette.ColorRole.AlternateBase: t.surface,
        QPalette.ColorRole.Text: t.text,
        QPalette.ColorRole.PlaceholderText: t.faint,
        QPalette.ColorRole.Button: t.raised,
        QPalette.ColorRole.ButtonText: t.text,
        QPalette.ColorRole.BrightText: t.bad,
        QPalette.ColorRole.Highlight: t.accent,
        QPalette.ColorRole.HighlightedText: t.on_accent,
        QPalette.ColorRole.ToolTipBase: t.raised,
        QPalette.ColorRole.ToolTipText: t.text,
        QPalette.ColorRole.Link: t.accent,
        QPalette.ColorRole.Light: t.border_strong,
        QPalette.ColorRole.Midlight: t.border,
        QPalette.ColorRole.Mid: t.border,
        QPalette.ColorRole.Dark: t.border,
        QPalette.ColorRole.Shadow: t.rail,
        QPalette.ColorRole.Accent: t.accent,
    }
    for role, colour in roles.items():
        p.setColor(role, QColor(colour))
    for role in (QPalette.ColorRole.WindowText, QPalette.ColorRole.Text, QPalette.ColorRole.ButtonText):
        p.setColor(QPalette.ColorGroup.Disabled, role, QColor(t.faint))
    return p


def tinted(name: str, size: int, colour: QColor, ratio: float = 1.0) -> QPixmap:
    """Icon ``name`` as a pixmap of ``size`` logical pixels, all its ink in ``colour``."""
    pixmap = QPixmap(QSize(size, size) * ratio)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    area = QRectF(pixmap.rect())
    source = resource_path("icons", f"{name}.svg")
    if source.is_file():
        QSvgRenderer(QByteArray(source.read_bytes())).render(painter, area)
        if name != APP_ICON:
            painter.setCompositionMode(QPainter.CompositionMode.CompositionMode_SourceIn)
            painter.fillRect(pixmap.rect(), colour)
    else:
        painter.setPen(QPen(colour, max(1.0, area.width() / 14)))
        painter.drawEllipse(
            area.adjusted(area.width() * 0.22, area.width() * 0.22, -area.width() * 0.22, -area.width() * 0.22)
        )
    painter.end()
    pixmap.setDevicePixelRatio(ratio)
    return pixmap


def draw_marks(folder: Path, t: Tokens) -> dict[str, str]:
    """Draw the small marks that a style sheet can only take from files (arrows, ticks); name -> path for ``url()``."""
    shapes: dict[str, tuple[list[tuple[float, float]], str]] = {
        "down": ([(3, 6), (8, 11), (13, 6)], t.muted),
        "up": ([(3, 10), (8, 5), (13, 10)], t.muted),
        "right": ([(6, 3), (11, 8), (6, 13)], t.muted),
        "tick": ([(3.2, 8.4), (6.6, 11.8), (12.8, 4.6)], t.on_accent),
    }
    paths: dict[str, str] = {}
    for name, (points, colour) in shapes.items():
        stem = f"{name}-{'dark' if t.dark else 'light'}"
        for ratio, suffix in ((1, ""), (2, "@2x")):
            pixmap = QPixmap(16 * ratio, 16 * ratio)
            pixmap.fill(Qt.GlobalColor.transparent)
            painter = QPainter(pixmap)
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            painter.scale(ratio, ratio)
            pen = QPen(QColor(colour), 1.8, Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap, Qt.PenJoinStyle.RoundJoin)
            painter.setPen(pen)
            painter.drawPolyline(QPolygonF([QPointF(x, y) for x, y in points]))
            painter.end()
            pixmap.save(str(folder / f"{stem}{suffix}.png"))
        paths[name] = (folder / f"{stem}.png").as_posix()
    return paths
