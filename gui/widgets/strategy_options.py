"""What can be chosen beside the strategy itself: which nesting, and along which axis layers are divided."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QWheelEvent
from PySide6.QtWidgets import QComboBox, QLabel, QLineEdit, QSizePolicy, QWidget

from gui.theme import XS, M, Theme
from gui.widgets.basics import label, row

NESTING_WIDTH: Final = 240
NARROW_NESTING: Final = 200
AUTOMATIC: Final = ""


class PatientComboBox(QComboBox):
    """Turns with the wheel only while it has the focus, so that scrolling a page past it changes nothing."""

    def wheelEvent(self, event: QWheelEvent) -> None:
        if self.hasFocus():
            super().wheelEvent(event)
        else:
            event.ignore()


class StrategyOptions(QWidget):
    """A line of fields, each shown only where it matters; hidden where none does."""

    nestingChosen = Signal(str)
    """As chosen or typed; "" asks for the first that suits."""
    tensorAxisChosen = Signal(str)
    """"", "columns" or "rows"."""
    spatialAxisChosen = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        tr = self.tr
        self._offered: tuple[str, ...] = ()
        self._narrow = False
        self.nesting = PatientComboBox()
        self._text = QLineEdit()
        self.nesting.setLineEdit(self._text)
        self.nesting.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self.nesting.setCompleter(None)  # type: ignore[arg-type] # Qt takes none as no completion
        self.nesting.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.nesting.setMinimumWidth(NESTING_WIDTH)
        self.nesting.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        self.nesting.setAccessibleName(tr("Nesting"))
        self.nesting.setToolTip(
            tr("Choose a nesting, or write one: the outermost level first, such as replicate(2) > tensor(2).")
        )
        self._text.setPlaceholderText(tr("replicate(2) > tensor(2)"))
        self.tensor_axis = _choice(
            tr("Tensor axis"),
            ((tr("automatic"), AUTOMATIC), (tr("columns"), "columns"), (tr("rows"), "rows")),
            tr(
                "Columns: each node makes some output features or channels. Rows: each takes some input features or "
                "channels and their sums are added up. Automatic: by cost, layer by layer."
            ),
        )
        self.spatial_axis = _choice(
            tr("Image axis"),
            ((tr("rows"), AUTOMATIC), (tr("columns"), "columns")),
            tr("Whether each node gets some rows of the image or some of its columns."),
        )
        self._nesting_name = label(tr("Nesting"), "small")
        self._nesting_part = _part(self._nesting_name, self.nesting)
        self._tensor_part = _part(label(tr("Parameters by"), "small"), self.tensor_axis)
        self._spatial_part = _part(label(tr("Images by"), "small"), self.spatial_axis)
        self.setLayout(row(self._nesting_part, self._tensor_part, self._spatial_part, spacing=M))
        self.problem = self._make_problem()
        self.nesting.activated.connect(lambda _index: self._tell_nesting())
        self._text.editingFinished.connect(self._tell_nesting)
        self.tensor_axis.activated.connect(lambda _i: self.tensorAxisChosen.emit(self.tensor_axis.currentData()))
        self.spatial_axis.activated.connect(lambda _i: self.spatialAxisChosen.emit(self.spatial_axis.currentData()))
        self._restyle()
        Theme.of().changed.connect(self._restyle)

    def _make_problem(self) -> QLabel:
        """Of the nesting's text; for the owner to lay out, since it is wider than the fields."""
        made = QLabel()
        made.setTextFormat(Qt.TextFormat.PlainText)
        made.setProperty("role", "bad")
        made.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        made.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        made.hide()
        return made

    def set_narrow(self, narrow: bool) -> None:
        """There is little room beside the fields."""
        self.nesting.setMinimumWidth(NARROW_NESTING if narrow else NESTING_WIDTH)
        self._narrow = narrow
        self._show_names()

    def _show_names(self) -> None:
        both = not self._tensor_part.isHidden() and not self._spatial_part.isHidden()
        self._nesting_name.setVisible(not (self._narrow and both))

    def _restyle(self) -> None:
        """A mark under a text needs letters of one width."""
        family = ", ".join(f'"{name}"' for name in Theme.of().font(mono=True).families())
        self.problem.setStyleSheet(f"font-family: {family};")

    def show_fields(self, *, nesting: bool, tensor: bool, spatial: bool) -> None:
        """Show those that matter."""
        for part, shown in (
            (self._nesting_part, nesting),
            (self._tensor_part, tensor),
            (self._spatial_part, spatial),
        ):
            part.setVisible(shown)
        self._show_names()
        self.setVisible(nesting or tensor or spatial)

    def show_nesting(self, text: str, offered: Sequence[str], problem: str) -> None:
        """``problem``: what the parser says of ``text``, with the place on lines of its own; "" where it is fine."""
        if tuple(offered) != self._offered:
            self._offered = tuple(offered)
            self.nesting.blockSignals(True)
            self.nesting.clear()
            self.nesting.addItems(self._offered)
            self.nesting.blockSignals(False)
        if self.nesting.currentText() != text and not self._text.isModified():
            self.nesting.setEditText(text)
            self._text.setCursorPosition(0)
        self.problem.setText(problem)
        self.problem.setVisible(bool(problem))
        self.problem.setAccessibleName(problem)

    def show_axes(self, tensor: str | None, spatial: str | None) -> None:
        for box, axis in ((self.tensor_axis, tensor), (self.spatial_axis, spatial)):
            place = box.findData(axis or AUTOMATIC)
            box.setCurrentIndex(max(0, place))

    def _tell_nesting(self) -> None:
        self._text.setModified(False)
        self.nestingChosen.emit(self.nesting.currentText().strip())


def _choice(name: str, choices: Sequence[tuple[str, str]], tip: str) -> QComboBox:
    made = PatientComboBox()
    made.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    made.setAccessibleName(name)
    made.setToolTip(tip)
    for words, axis in choices:
        made.addItem(words, axis)
    return made


def _part(name: QLabel, field: QWidget) -> QWidget:
    made = QWidget()
    made.setLayout(row(name, field, spacing=XS + 2))
    return made
