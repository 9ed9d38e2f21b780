"""The dialog for what happens before a model and behind it: pixels to numbers, scores to named classes."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Final

import msgspec
from PySide6.QtCore import Signal
from PySide6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDialog,
    QFileDialog,
    QFormLayout,
    QLineEdit,
    QWidget,
)

from core.model.pictures import PictureInput, picture_input
from core.model.processing_types import InputProcessing, OutputProcessing, Processing
from core.model.types import TensorInfo
from gui.theme import XL, L, M, S
from gui.widgets.basics import Card, button, column, label, row, set_look
from gui.widgets.fields import spin_box
from gui.widgets.layer_list import shape_text
from gui.widgets.scroll_area import ScrollArea

MOST_PIXELS: Final = 8192
MOST_CLASSES: Final = 100
TITLE_BAR: Final = 60
"""Pixels of the screen's height that the window's frame may take."""
LAYOUTS: Final = ("", "NHWC", "NCHW")


def parse_numbers(text: str) -> tuple[float, ...] | None:
    """``"0.485, 0.456, 0.406"`` or ``"1/255"``; None for an empty text. Raises ValueError for anything else."""
    if not text.strip():
        return None
    numbers = []
    for part in text.replace(";", ",").split(","):
        over, slash, under = part.partition("/")
        number = float(over) / float(under) if slash else float(over)
        if not isfinite(number):
            raise ValueError(part)
        numbers.append(number)
    return tuple(numbers)


def number_text(value: float | None) -> str:
    """1/255 rather than 0.00392157."""
    if value is None:
        return ""
    inverse = round(1 / value) if value else 0
    if inverse > 1 and abs(value * inverse - 1) < 1e-9:
        return f"1/{inverse}"
    return f"{value:.6g}"


class Problem(ValueError):
    """A field that cannot be understood; says which, in words."""


class SizeField(QWidget):
    """Height and width; 0 by 0 means none."""

    changed = Signal()

    def __init__(self, name: str, size: tuple[int, int] | None, nothing: str) -> None:
        super().__init__()
        self._spins = []
        layout = row(spacing=S)
        for place, axis in enumerate((self.tr("height"), self.tr("width"))):
            spin = spin_box(0, MOST_PIXELS, size[place] if size else 0, f"{name}, {axis}")
            spin.setSpecialValueText(f"{nothing} {axis}")
            spin.setPrefix(f"{axis} ")
            spin.valueChanged.connect(lambda _value: self.changed.emit())
            self._spins.append(spin)
            if place:
                layout.addWidget(label("×", "caption"))
            layout.addWidget(spin, 1)
        self.setLayout(layout)
        self._name = name

    def value(self) -> tuple[int, int] | None:
        height, width = (spin.value() for spin in self._spins)
        if bool(height) != bool(width):
            raise Problem(self.tr("{0}: give both height and width, or neither.").format(self._name))
        return (height, width) if height else None


class InputForm(Card):
    """What happens to one picture input."""

    changed = Signal()

    def __init__(self, info: TensorInfo, picture: PictureInput, step: InputProcessing) -> None:
        super().__init__(info.name, f"{info.dtype}   {shape_text(info.dims)}")
        self._step, self._picture = step, picture
        self._dtype = QComboBox()
        self._dtype.addItem(self.tr("pixels, uint8: a quarter of the bytes"), "uint8")
        self._dtype.addItem(self.tr("as the model takes them: {0}").format(picture.dtype), "")
        self._dtype.setCurrentIndex(0 if step.dtype == "uint8" else 1)
        self._layout = QComboBox()
        for layout in LAYOUTS:
            words = {"NHWC": self.tr("channels last, NHWC"), "NCHW": self.tr("channels first, NCHW")}
            self._layout.addItem(
                words.get(layout, self.tr("as the model takes them: {0}").format(picture.layout)), layout
            )
        self._layout.setCurrentIndex(LAYOUTS.index(step.layout))
        self._size = SizeField(self.tr("Resize"), step.size, self.tr("own"))
        self._crop = SizeField(self.tr("Crop the middle"), step.crop, self.tr("whole"))
        self._scale = QLineEdit(number_text(step.scale))
        self._scale.setPlaceholderText("1/255")
        self._mean = QLineEdit(", ".join(number_text(v) for v in step.mean or ()))
        self._std = QLineEdit(", ".join(number_text(v) for v in step.std or ()))
        per = self.tr("one number, or one for each of %n channel(s)", "", picture.channels)
        for field in (self._mean, self._std):
            field.setPlaceholderText(per)
        form = QFormLayout()
        form.setHorizontalSpacing(L)
        form.setVerticalSpacing(S)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        fields: tuple[tuple[str, QWidget], ...] = (
            (self.tr("Sent as"), self._dtype),
            (self.tr("Layout sent"), self._layout),
            (self.tr("Resize to"), self._size),
            (self.tr("Crop the middle"), self._crop),
            (self.tr("Times"), self._scale),
            (self.tr("Minus mean"), self._mean),
            (self.tr("Divided by"), self._std),
        )
        for name, widget in fields:
            widget.setAccessibleName(name)
            form.addRow(name, widget)
        self.body.addLayout(form)
        self._dtype.currentIndexChanged.connect(self.changed)
        self._layout.currentIndexChanged.connect(self.changed)
        for size in (self._size, self._crop):
            size.changed.connect(self.changed)
        for line in (self._scale, self._mean, self._std):
            line.textChanged.connect(self.changed)

    def value(self) -> InputProcessing:
        """Raises Problem."""
        scale = self._numbers(self._scale, self.tr("Times"), (1,))
        per_channel = (1, self._picture.channels)
        std = self._numbers(self._std, self.tr("Divided by"), per_channel)
        if std is not None and 0.0 in std:
            raise Problem(self.tr("Divided by: 0 is not possible."))
        return msgspec.structs.replace(
            self._step,
            dtype=self._dtype.currentData(),
            layout=self._layout.currentData(),
            size=self._size.value(),
            crop=self._crop.value(),
            scale=scale[0] if scale else None,
            mean=self._numbers(self._mean, self.tr("Minus mean"), per_channel),
            std=std,
        )

    def _numbers(self, field: QLineEdit, name: str, counts: Sequence[int]) -> tuple[float, ...] | None:
        try:
            numbers = parse_numbers(field.text())
        except (ValueError, ZeroDivisionError):
            raise Problem(self.tr("{0}: “{1}” is not a number.").format(name, field.text())) from None
        if numbers is not None and len(numbers) not in counts:
            wanted = self.tr(" or ").join(str(c) for c in dict.fromkeys(counts))
            raise Problem(self.tr("{0}: {1} numbers given, {2} wanted.").format(name, len(numbers), wanted))
        return numbers


class OutputForm(Card):
    """What is made of one output of classes."""

    changed = Signal()

    def __init__(self, info: TensorInfo, step: OutputProcessing) -> None:
        super().__init__(info.name, f"{info.dtype}   {shape_text(info.dims)}")
        self._step = step
        self._labels = step.labels
        self._softmax = QCheckBox(self.tr("Scores to probabilities (softmax)"))
        self._softmax.setChecked(step.softmax)
        self._argmax = QCheckBox(self.tr("Number of the best class (arg-max)"))
        self._argmax.setChecked(step.argmax)
        classes = info.dims[-1]
        most = min(MOST_CLASSES, classes) if isinstance(classes, int) else MOST_CLASSES
        self._top = spin_box(0, most, step.top_k, self.tr("Best classes sent"))
        self._top.setSpecialValueText(self.tr("all values"))
        self._named = label("", "caption", wrap=True)
        load = button(self.tr("Load…"), self._load)
        load.setToolTip(self.tr("A text file with one label a line, in the order of the classes"))
        clear = button(self.tr("Clear"), self._clear, role="flat")
        form = QFormLayout()
        form.setHorizontalSpacing(L)
        form.setVerticalSpacing(S)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("", self._softmax)
        form.addRow("", self._argmax)
        form.addRow(self.tr("Best classes sent"), self._top)
        labels = row(spacing=S)
        labels.addWidget(self._named, 1)
        labels.addWidget(load)
        labels.addWidget(clear)
        form.addRow(self.tr("Labels"), labels)
        self.body.addLayout(form)
        self._say_labels()
        self._softmax.toggled.connect(self.changed)
        self._argmax.toggled.connect(self.changed)
        self._top.valueChanged.connect(self.changed)

    def value(self) -> OutputProcessing:
        return msgspec.structs.replace(
            self._step,
            softmax=self._softmax.isChecked(),
            argmax=self._argmax.isChecked(),
            top_k=self._top.value(),
            labels=self._labels,
        )

    def load_labels(self, path: Path) -> None:
        """One label a line. Raises OSError or UnicodeError."""
        lines = path.read_text(encoding="utf-8").splitlines()
        self._labels = tuple(line.strip() for line in lines if line.strip())
        self._say_labels()
        self.changed.emit()

    def _load(self) -> None:
        path, _ = QFileDialog.getOpenFileName(
            self, self.tr("Labels of the classes"), "", self.tr("Text files (*.txt *.csv *.names);;All files (*)")
        )
        if not path:
            return
        try:
            self.load_labels(Path(path))
        except (OSError, UnicodeError) as error:
            self._named.setText(self.tr("{0} cannot be read: {1}").format(path, error))

    def _clear(self) -> None:
        self._labels = ()
        self._say_labels()
        self.changed.emit()

    def _say_labels(self) -> None:
        if not self._labels:
            self._named.setText(self.tr("none: classes are shown by number"))
            return
        some = ", ".join(self._labels[:4]) + (" …" if len(self._labels) > 4 else "")
        self._named.setText(self.tr("%n label(s): ", "", len(self._labels)) + some)


def holds_classes(info: TensorInfo) -> bool:
    """Whether an output looks like scores of classes."""
    return (
        len(info.dims) >= 2 and info.dtype.startswith("float") and isinstance(info.dims[-1], int) and info.dims[-1] > 1
    )


class ProcessingEditor(QDialog):
    """Edits the Processing of one model. ``applied`` tells the new one; it stays open until the owner accepts it."""

    applied = Signal(object)

    def __init__(
        self,
        name: str,
        inputs: Sequence[TensorInfo],
        outputs: Sequence[TensorInfo],
        processing: Processing,
        parent: QWidget,
    ) -> None:
        """``inputs`` and ``outputs`` of the model as in its file."""
        super().__init__(parent)
        self.setModal(True)
        self.setWindowTitle(self.tr("Pre- and postprocessing of {0}").format(name))
        self._others = processing
        before = {step.input: step for step in processing.inputs}
        after = {step.output: step for step in processing.outputs}
        self._inputs = [
            InputForm(info, picture, before.get(info.name, InputProcessing(info.name)))
            for info in inputs
            if (picture := picture_input(info)) is not None
        ]
        self._outputs = [
            OutputForm(info, after.get(info.name, OutputProcessing(info.name)))
            for info in outputs
            if holds_classes(info)
        ]
        self._problem = label("", "bad", wrap=True)
        self._apply = button(self.tr("Apply"), self._give, role="primary")
        self._apply.setDefault(True)
        self._build()
        forms: tuple[InputForm | OutputForm, ...] = (*self._inputs, *self._outputs)
        for form in forms:
            form.changed.connect(self._check)

    def _build(self) -> None:
        parts = column(spacing=M, margins=(0, 0, S, 0))
        parts.addWidget(
            label(
                self.tr(
                    "These steps become part of the model and run on the nodes: pixels travel as they are and only the "
                    "best classes come back. Remembered for this model."
                ),
                "caption",
                wrap=True,
            )
        )
        for title, forms in ((self.tr("Before the model"), self._inputs), (self.tr("Behind the model"), self._outputs)):
            parts.addWidget(label(title, "overline"))
            for form in forms:
                parts.addWidget(form)
            if not forms:
                parts.addWidget(label(self.tr("Nothing to choose: sent as it is."), "caption"))
        parts.addStretch(1)
        inside = QWidget()
        inside.setProperty("role", "page")
        inside.setLayout(parts)
        area = ScrollArea(inside)
        buttons = row(spacing=S)
        buttons.addWidget(self._problem, 1)
        buttons.addWidget(button(self.tr("Cancel"), self.reject))
        buttons.addWidget(self._apply)
        outer = column(area, buttons, spacing=L, margins=(XL, XL, XL - S, L))
        outer.setStretch(0, 1)
        self.setLayout(outer)
        room = self.screen().availableGeometry().height() - TITLE_BAR
        self.resize(600, min(860, room, 220 + inside.sizeHint().height()))

    def processing(self) -> Processing:
        """What the fields say; tensors without a form keep their steps. Raises Problem."""
        inputs = [form.value() for form in self._inputs]
        outputs = [form.value() for form in self._outputs]
        shown_in, shown_out = {s.input for s in inputs}, {s.output for s in outputs}
        inputs += [s for s in self._others.inputs if s.input not in shown_in]
        outputs += [s for s in self._others.outputs if s.output not in shown_out]
        return Processing(
            inputs=tuple(s for s in inputs if s != InputProcessing(s.input)),
            outputs=tuple(s for s in outputs if s != OutputProcessing(s.output)),
        )

    def say_problem(self, text: str) -> None:
        """The model does not take what was asked for; the dialog stays open."""
        self._problem.setText(text)
        self._apply.setEnabled(True)
        set_look(self._problem, "role", "bad")

    def _check(self) -> None:
        try:
            self.processing()
        except Problem as problem:
            self._problem.setText(str(problem))
            self._apply.setEnabled(False)
        else:
            self._problem.clear()
            self._apply.setEnabled(True)

    def _give(self) -> None:
        self._apply.setEnabled(False)
        self.applied.emit(self.processing())


def summary(processing: Processing) -> list[tuple[str, list[str]]]:
    """Each tensor with its steps in short: ``("image", ["uint8 NHWC", "× 1/255"])``."""
    lines = []
    for step in processing.inputs:
        parts = [" ".join(filter(None, (step.dtype, step.layout)))]
        parts += [f"{size[0]} × {size[1]} px"] if (size := step.size) else []
        parts += [f"▣ {crop[0]} × {crop[1]} px"] if (crop := step.crop) else []
        parts += [f"× {number_text(step.scale)}"] if step.scale is not None else []
        parts += ["− mean"] if step.mean else []
        parts += ["÷ std"] if step.std else []
        lines.append((step.input, [part for part in parts if part]))
    for after in processing.outputs:
        parts = ["softmax"] if after.softmax else []
        parts += ["arg-max"] if after.argmax else []
        parts += [f"top {after.top_k}"] if after.top_k else []
        lines.append((after.output, parts))
    return lines
