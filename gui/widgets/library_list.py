"""The list of models one can open: bundled, reference architectures, recent files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from PySide6.QtCore import QAbstractListModel, QModelIndex, QPersistentModelIndex, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QColor, QFontMetricsF, QPainter
from PySide6.QtWidgets import QListView, QStyle, QStyledItemDelegate, QStyleOptionViewItem, QWidget

from gui.theme import XS, L, M, S, Theme

if TYPE_CHECKING:
    from core.model.library import LibraryEntry

Index = QModelIndex | QPersistentModelIndex
ENTRY_ROLE: Final = Qt.ItemDataRole.UserRole + 1
KINDS: Final = ("bundled", "reference", "recent")


class LibraryModel(QAbstractListModel):
    """Entries under the heading of their kind. Headings are rows that cannot be selected."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._rows: list[str | LibraryEntry] = []

    def set_entries(self, entries: Sequence[LibraryEntry]) -> None:
        self.beginResetModel()
        self._rows = []
        for kind in KINDS:
            of_kind = [entry for entry in entries if entry.kind == kind]
            if of_kind:
                self._rows += [kind, *of_kind]
        self.endResetModel()

    def entry(self, row: int) -> LibraryEntry | None:
        """None for a heading."""
        found = self._rows[row]
        return None if isinstance(found, str) else found

    def row_of(self, key: str) -> int:
        """-1: no entry has this key."""
        return next((i for i, row in enumerate(self._rows) if not isinstance(row, str) and row.key == key), -1)

    def rowCount(self, _parent: Index = QModelIndex()) -> int:  # noqa: B008 - Qt's signature
        return len(self._rows)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        entry = self.entry(index.row())
        if role == ENTRY_ROLE:
            return entry
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.AccessibleTextRole):
            return entry.title if entry else self._heading(str(self._rows[index.row()]))
        if role in (Qt.ItemDataRole.ToolTipRole, Qt.ItemDataRole.AccessibleDescriptionRole) and entry:
            return entry.description
        return None

    def flags(self, index: Index) -> Qt.ItemFlag:
        if self.entry(index.row()) is None:
            return Qt.ItemFlag.NoItemFlags
        return Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable | Qt.ItemFlag.ItemNeverHasChildren

    def _heading(self, kind: str) -> str:
        match kind:
            case "bundled":
                return self.tr("Trained, with samples")
            case "reference":
                return self.tr("Reference architectures")
            case _:
                return self.tr("Recently opened")


class LibraryDelegate(QStyledItemDelegate):
    """Two lines for an entry, one small line for a heading."""

    def sizeHint(self, option: QStyleOptionViewItem, index: Index) -> QSize:
        line = option.fontMetrics.height()
        heading = index.data(ENTRY_ROLE) is None
        return QSize(120, line + (L if heading else line + L + 2))

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: Index) -> None:
        theme = Theme.of()
        entry: LibraryEntry | None = index.data(ENTRY_ROLE)
        area = QRectF(option.rect)
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if entry is None:
            painter.setFont(theme.font(-1, bold=True))
            painter.setPen(theme.colour("muted"))
            box = area.adjusted(M, 0, -S, -XS)
            painter.drawText(box, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignBottom, str(index.data()))
        else:
            self._entry(painter, area, entry, option)
        painter.restore()

    def _entry(self, painter: QPainter, area: QRectF, entry: LibraryEntry, option: QStyleOptionViewItem) -> None:
        theme = Theme.of()
        state = option.state
        selected = bool(state & QStyle.StateFlag.State_Selected)
        back = area.adjusted(XS, 1, -XS, -1)
        if selected or state & QStyle.StateFlag.State_MouseOver:
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(theme.colour("accent_soft" if selected else "raised"))
            painter.drawRoundedRect(back, 6, 6)
        if state & QStyle.StateFlag.State_HasFocus:
            painter.setPen(QColor(theme.tokens.accent))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRoundedRect(back.adjusted(0.5, 0.5, -0.5, -0.5), 6, 6)
        inner = area.adjusted(M, S - 1, -M, -S + 1)
        self._line(painter, inner, entry.title, theme.font(0, bold=True), "text", 0)
        self._line(painter, inner, entry.description, theme.font(-1), "muted", 1)

    def _line(self, painter: QPainter, area: QRectF, text: str, font: Any, token: str, half: int) -> None:
        painter.setFont(font)
        painter.setPen(Theme.of().colour(token))
        shown = QFontMetricsF(font).elidedText(text, Qt.TextElideMode.ElideRight, area.width())
        height = area.height() / 2
        box = QRectF(area.left(), area.top() + half * height, area.width(), height)
        painter.drawText(box, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, shown)


class LibraryList(QListView):
    """A click or Return opens an entry. ``opened`` tells its key."""

    opened = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._entries = LibraryModel(self)
        self.setModel(self._entries)
        self.setItemDelegate(LibraryDelegate(self))
        self.setProperty("role", "bare")
        self.setMouseTracking(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setVerticalScrollMode(QListView.ScrollMode.ScrollPerPixel)
        self.setAccessibleName(self.tr("Model library"))
        self.clicked.connect(self._open)
        self.activated.connect(self._open)
        self._last_opened = ""

    def set_entries(self, entries: Sequence[LibraryEntry]) -> None:
        self._entries.set_entries(entries)
        self.select(self._last_opened)

    def select(self, key: str) -> None:
        """Mark the entry that is open; "" or an unknown key: none."""
        self._last_opened = key
        row = self._entries.row_of(key)
        if row < 0:
            self.clearSelection()
        else:
            self.setCurrentIndex(self._entries.index(row, 0))

    def row_point(self, key: str) -> Any:
        """The middle of an entry's row, in the viewport."""
        return self.visualRect(self._entries.index(self._entries.row_of(key), 0)).center()

    def _open(self, index: QModelIndex) -> None:
        entry = self._entries.entry(index.row())
        if entry is not None and entry.key != self._last_opened:
            self._last_opened = entry.key
            self.opened.emit(entry.key)
