"""What a run goes through: samples, a file or folder, or random items; how often; and where the results go."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from msgspec import Struct
from PySide6.QtCore import Signal
from PySide6.QtWidgets import (
    QButtonGroup,
    QCheckBox,
    QFileDialog,
    QFormLayout,
    QLineEdit,
    QMenu,
    QRadioButton,
    QWidget,
)

from core.run.report import RunReport
from gui.theme import XS, L, M, S
from gui.widgets.basics import button, column, label, line, row
from gui.widgets.fields import spin_box

UNTIL_STOPPED: Final = 30 * 86_400.0
"""Seconds: as good as for ever."""
MOST_ITEMS: Final = 10_000_000
SAMPLES, FILES, RANDOM = range(3)


class Order(Struct, frozen=True):
    """A run as asked for; see Bridge.run."""

    spec: str
    repeat: int
    in_flight: int | None
    sink: str
    seconds: float | None


class RunInput(QWidget):
    """The fields. ``changed`` whenever one of them does."""

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._samples: Path | None = None
        self._model = ""
        self._choice = QButtonGroup(self)
        self._from_samples = QRadioButton(self.tr("Samples of this model"))
        self._from_files = QRadioButton(self.tr("A file or folder"))
        self._from_random = QRadioButton(self.tr("Random items"))
        for place, radio in enumerate((self._from_samples, self._from_files, self._from_random)):
            self._choice.addButton(radio, place)
        self._samples_note = label("", "small", wrap=True)
        self._path = QLineEdit()
        self._path.setPlaceholderText(self.tr(".npz, .npy, pictures"))
        self._path.setAccessibleName(self.tr("Input file or folder"))
        self._browse = button(self.tr("Browse"))
        menu = QMenu(self._browse)
        menu.addAction(self.tr("File…"), self._choose_file)
        menu.addAction(self.tr("Folder…"), self._choose_folder)
        self._browse.setMenu(menu)
        self._random = spin_box(1, MOST_ITEMS, 256, self.tr("Random items"))
        self._repeat = spin_box(1, 1_000_000, 1, self.tr("Times through the inputs"))
        self._endless = QCheckBox(self.tr("until stopped"))
        self._flight = spin_box(0, 1024, 0, self.tr("Micro-batches in flight"))
        self._flight.setSpecialValueText(self.tr("automatic"))
        self._flight.setToolTip(self.tr("Per replica: more hides the network, fewer shortens the queue."))
        self._sink = QLineEdit()
        self._sink.setPlaceholderText(self.tr("shown here only"))
        self._sink.setAccessibleName(self.tr("File for all results"))
        self._sink_browse = button(self.tr("Save as…"), self._choose_sink)
        self._build()
        self._connect()
        self._from_random.setChecked(True)
        self._show()

    def _build(self) -> None:
        path = row(spacing=S)
        path.addWidget(self._path, 1)
        path.addWidget(self._browse)
        self._path_row = QWidget()
        self._path_row.setLayout(path)
        indent = S + L
        sources = column(
            self._from_samples,
            column(self._samples_note, margins=(indent, 0, 0, 0)),
            self._from_files,
            column(self._path_row, margins=(indent, 0, 0, 0)),
            self._from_random,
            column(self._random, margins=(indent, 0, 0, 0)),
            spacing=S,
        )
        form = QFormLayout()
        form.setHorizontalSpacing(L)
        form.setVerticalSpacing(S)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        times = row(spacing=M)
        times.addWidget(self._repeat, 1)
        times.addWidget(self._endless)
        form.addRow(self.tr("Repeat"), times)
        form.addRow(self.tr("In flight"), self._flight)
        sink = row(spacing=S)
        sink.addWidget(self._sink, 1)
        sink.addWidget(self._sink_browse)
        form.addRow(self.tr("Write to"), sink)
        self.setLayout(column(sources, line(), form, spacing=M, margins=(0, XS, 0, 0)))

    def _connect(self) -> None:
        self._choice.idToggled.connect(lambda _id, on: self._show() if on else None)
        self._path.textChanged.connect(lambda _text: self.changed.emit())
        self._endless.toggled.connect(lambda _on: self._show())

    def _show(self) -> None:
        chosen = self._choice.checkedId()
        self._samples_note.setVisible(chosen == SAMPLES)
        self._path_row.setVisible(chosen == FILES)
        self._random.setVisible(chosen == RANDOM)
        self._repeat.setEnabled(not self._endless.isChecked())
        self.changed.emit()

    # ---------------------------------------------------------------- what it says

    def show_model(self, name: str, samples: Path | None) -> None:
        """Offer the model's samples; a model of another name starts with them, or with random items."""
        self._samples = samples
        self._from_samples.setVisible(samples is not None)
        self._samples_note.setText(samples.name if samples else "")
        if name != self._model:
            self._model = name
            (self._from_samples if samples else self._from_random).setChecked(True)
        elif samples is None and self._from_samples.isChecked():
            self._from_random.setChecked(True)
        self._show()

    def adopt(self, report: RunReport) -> None:
        """Take over the input of an earlier run."""
        if report.input.startswith("random:"):
            self._random.setValue(int(report.input.partition(":")[2]))
            self._from_random.setChecked(True)
        elif self._samples is not None and report.input == str(self._samples):
            self._from_samples.setChecked(True)
        elif report.input:
            self._path.setText(report.input)
            self._from_files.setChecked(True)

    def is_complete(self) -> bool:
        """Whether there is something to run."""
        return bool(self.order().spec)

    def order(self) -> Order:
        """What the fields say."""
        chosen = self._choice.checkedId()
        specs = {SAMPLES: str(self._samples or ""), FILES: self._path.text().strip()}
        return Order(
            spec=specs.get(chosen, f"random:{self._random.value()}"),
            repeat=self._repeat.value(),
            in_flight=self._flight.value() or None,
            sink=self._sink.text().strip(),
            seconds=UNTIL_STOPPED if self._endless.isChecked() else None,
        )

    # ---------------------------------------------------------------- choosers

    def _choose_file(self) -> None:
        kinds = "*.npz *.npy *.png *.jpg *.jpeg *.bmp *.gif *.webp *.tif *.tiff *.pgm *.ppm"
        path, _ = QFileDialog.getOpenFileName(
            self, self.tr("Input"), "", self.tr("Arrays and pictures ({0});;All files (*)").format(kinds)
        )
        if path:
            self._path.setText(path)

    def _choose_folder(self) -> None:
        path = QFileDialog.getExistingDirectory(self, self.tr("Folder of pictures or arrays"))
        if path:
            self._path.setText(path)

    def _choose_sink(self) -> None:
        path, _ = QFileDialog.getSaveFileName(
            self, self.tr("Write all results to"), "", self.tr("NumPy arrays (*.npz);;Table of best classes (*.csv)")
        )
        if path:
            self._sink.setText(path)
