"""What can be chosen beside the strategy itself: which nesting, and along which axis layers are divided."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QWheelEvent
from PySide6.QtWidgets import QComboBox, QLabel, QLineEdit, QSizePolicy, QWidget

from gui.theme import XS, L, S, Theme
from gui.widgets.basics import column, label, row

NESTING_WIDTH: Final = 340
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
        self._nesting_part = _part(tr("Nesting"), self.nesting)
        self._tensor_part = _part(tr("Divide parameters by"), self.tensor_axis)
        self._spatial_part = _part(tr("Divide images by"), self.spatial_axis)
        fields = row(self._nesting_part, self._tensor_part, self._spatial_part, None, spacing=L)
        self.problem = QLabel()
        self.problem.setTextFormat(Qt.TextFormat.PlainText)
        self.problem.setProperty("role", "bad")
        self.problem.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.problem.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.problem.hide()
        self.setLayout(column(fields, self.problem, spacing=S, margins=(XS, 0, XS, 0)))
        self.nesting.activated.connect(lambda _index: self._tell_nesting())
        self._text.editingFinished.connect(self._tell_nesting)
        self.tensor_axis.activated.connect(lambda _i: self.tensorAxisChosen.emit(self.tensor_axis.currentData()))
        self.spatial_axis.activated.connect(lambda _i: self.spatialAxisChosen.emit(self.spatial_axis.currentData()))
        self._restyle()
        Theme.of().changed.connect(self._restyle)

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


def _part(name: str, field: QWidget) -> QWidget:
    made = QWidget()
    made.setLayout(row(label(name, "small"), field, spacing=S))
    return made
