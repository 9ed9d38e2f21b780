"""The Model page: choose a model on the left, see what it consists of on the right."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QDragEnterEvent, QDragLeaveEvent, QDropEvent, QResizeEvent
from PySide6.QtWidgets import QFileDialog, QGridLayout, QLabel, QProgressBar, QStackedWidget, QWidget

from core.errors import ShardboardError
from core.model.types import Layer, TensorInfo
from gui.bridge import Bridge
from gui.inspector import Inspection
from gui.theme import XS, L, M
from gui.widgets.banner import Banner
from gui.widgets.basics import Card, EmptyState, Page, button, column, label, row
from gui.widgets.formats import count, grouped
from gui.widgets.layer_list import LayerList, TreeRow, shape_text
from gui.widgets.library_list import LibraryList
from gui.widgets.units import DASH, nbytes, percent
from gui.widgets.work_overview import WorkOverview

if TYPE_CHECKING:
    from core.model.graph import Model
    from core.model.library import LibraryEntry

LIBRARY_WIDTH = 256
TENSORS_SHOWN = 3
FIGURES = 4
"""Of a model, shown large; the others follow them, or go below them where there is less room than WIDE pixels."""
WIDE = 640
NARROWEST = 300


def read_library() -> tuple[LibraryEntry, ...]:
    """Worker thread."""
    from core.model.library import library  # noqa: PLC0415 - needs onnx, which the window does not wait for

    return library()


class ModelPage(Page):
    """See the module's docstring."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__()
        self.set_head(self.tr("Model"), self.tr("What is to be run: any ONNX file, or a model of the library."))
        self._bridge = bridge
        self._layers: tuple[Layer, ...] = ()
        self.setAcceptDrops(True)
        self._library = LibraryList()
        self._banner = Banner("bad")
        self._facts = Facts()
        self._overview = WorkOverview()
        self._list = LayerList()
        self._stack = QStackedWidget()
        self._busy = QProgressBar()
        self._build()
        self._library.opened.connect(self.open)
        self._overview.picked.connect(self._list.show_layer)
        self._list.picked.connect(self._inspect)
        bridge.modelOpening.connect(self._opening)
        bridge.modelOpened.connect(self._opened)
        bridge.modelFailed.connect(self._failed)
        self._read_library()
        self._say_nothing_open()
        if bridge.base_model is not None:
            self._opened(bridge.base_model, bridge.entry)

    # ---------------------------------------------------------------- layout

    def _build(self) -> None:
        choose = button(self.tr("Open ONNX file…"), self.choose_file, role="primary", icon="folder")
        choose.setShortcut("Ctrl+O")
        self.tools.addWidget(choose)
        left = Card(self.tr("Library"), margin=M)
        left.setFixedWidth(LIBRARY_WIDTH)
        left.body.addWidget(self._library, 1)
        left.body.addWidget(label(self.tr("or drop an .onnx file anywhere on this page"), "small", wrap=True))
        self._busy.setRange(0, 0)
        self._busy.hide()
        left.body.addWidget(self._busy)
        left.heading.setContentsMargins(XS, XS, 0, 0)
        work = Card(self.tr("Work over the depth"), self.tr("multiply-adds of each layer, first layer on the left"))
        work.body.addWidget(self._overview)
        layers = Card(self.tr("Layers"), "", margin=L)
        layers.body.addWidget(self._list, 1)
        self._layers_hint = layers.hint
        parts = column(self._facts, work, layers, spacing=L)
        parts.setStretch(2, 1)
        shown = QWidget()
        shown.setLayout(parts)
        empty = EmptyState(
            "model",
            self.tr("No model is open"),
            self.tr("Choose one of the library on the left, or open any ONNX file: vision, language or anything else."),
            (button(self.tr("Open ONNX file…"), self.choose_file),),
        )
        self._stack.addWidget(empty)
        self._stack.addWidget(shown)
        right = column(self._banner, self._stack, spacing=L)
        right.setStretch(1, 1)
        both = row(left, spacing=L)
        both.addLayout(right, 1)
        self.body.addLayout(both, 1)
        self._banner.tools.addWidget(button(self.tr("Dismiss"), self._banner.clear, role="flat"))

    # ---------------------------------------------------------------- opening

    def choose_file(self) -> None:
        """Ask for a file and open it."""
        path, _ = QFileDialog.getOpenFileName(
            self, self.tr("Open a model"), "", self.tr("ONNX models (*.onnx);;All files (*)")
        )
        if path:
            self.open(path)

    def open(self, text: str) -> None:
        """Open a path or a key of the library."""
        self._banner.clear()
        self._bridge.openModel(text)

    def shows(self, message: str) -> bool:
        return self._banner.says(message)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        path = _dropped(event)
        if path is not None:
            self._banner.say(self.tr("Drop to open {0}").format(path.name), "", "info")
            event.acceptProposedAction()

    def dragLeaveEvent(self, _event: QDragLeaveEvent) -> None:
        self._banner.clear()

    def dropEvent(self, event: QDropEvent) -> None:
        path = _dropped(event)
        if path is not None:
            event.acceptProposedAction()
            self.open(str(path))

    def _read_library(self) -> None:
        self._bridge.tasks.start(read_library, self._library.set_entries, self._library_failed)

    def _library_failed(self, error: ShardboardError) -> None:
        self._banner.say(self.tr("The model library cannot be read"), str(error), "bad")

    def _opening(self, _text: str) -> None:
        self._banner.clear()
        self._busy.show()

    def _failed(self, message: str) -> None:
        self._busy.hide()
        kept = self._bridge.base_model
        title = self.tr("This model cannot be opened")
        if kept is not None:
            message = f"{message}\n{self.tr('{0} stays open.').format(kept.name)}"
        self._banner.say(title, message, "bad")
        self._library.select(self._bridge.entry.key if self._bridge.entry else "")

    def _opened(self, _model: Model, entry: LibraryEntry | None) -> None:
        self._busy.hide()
        self._banner.clear()
        model = self._bridge.base_model
        assert model is not None
        self._library.select(entry.key if entry else "")
        self._read_library()
        self._bridge.tasks.start(partial(model.layers, 1), partial(self._show, model, entry))

    # ---------------------------------------------------------------- showing

    def _say_nothing_open(self) -> None:
        self._stack.setCurrentIndex(0)

    def _show(self, model: Model, entry: LibraryEntry | None, layers: tuple[Layer, ...]) -> None:
        if model is not self._bridge.base_model:
            return
        self._layers = layers
        self._overview.set_layers(layers)
        self._list.set_layers(layers)
        self._facts.show_model(model, entry, layers)
        self._layers_hint.setText(self.tr("%n layer(s), for one item", "", len(layers)))
        title = entry.title if entry else model.name
        self.subtitle.setText(f"{title}  ·  {entry.description}" if entry and entry.description else title)
        self._stack.setCurrentIndex(1)
        self.inspected.emit(None)

    def _inspect(self, chosen: TreeRow) -> None:
        layer = chosen.layer
        self._overview.mark(layer.index if layer else -1)
        total = sum(known.macs for known in self._layers)
        share = percent(chosen.macs / total, 1) if total else DASH
        rows: list[tuple[str, str | None]] = [
            (self.tr("Parameters"), grouped(chosen.parameters)),
            (self.tr("Multiply-adds"), grouped(chosen.macs)),
            (self.tr("Share of the work"), share),
        ]
        if layer is None:
            self.inspected.emit(Inspection(chosen.name, [(self.tr("Layers"), str(chosen.layers)), *rows]))
            return
        rows += [
            (self.tr("Weights"), nbytes(layer.parameter_bytes)),
            (self.tr("Output"), None),
            (self.tr("Shape"), shape_text(layer.output_shape)),
            (self.tr("Size"), nbytes(layer.output_bytes)),
            (self.tr("Name"), layer.outputs[0] if layer.outputs else DASH),
        ]
        place = self.tr("Layer {0} of {1}").format(layer.index + 1, len(self._layers))
        head = [(self.tr("Operator"), layer.op), (self.tr("Place"), place)]
        if layer.group:
            head.append((self.tr("Module"), layer.group))
        self.inspected.emit(Inspection(layer.name, [*head, *rows], layer.op))


class Facts(Card):
    """The figures of a model, and what goes in and comes out."""

    def __init__(self) -> None:
        super().__init__("", margin=L)
        self.setAccessibleName(self.tr("Summary of the model"))
        self._name = label("", "heading", selectable=True)
        self._path = label("", "small", selectable=True)
        self._values: dict[str, QLabel] = {}
        self._figures = QGridLayout()
        self._figures.setHorizontalSpacing(L)
        self._figures.setVerticalSpacing(XS)
        names = (
            ("parameters", self.tr("Parameters")),
            ("weights", self.tr("Weights")),
            ("macs", self.tr("Multiply-adds")),
            ("layers", self.tr("Layers")),
            ("opset", self.tr("Opset")),
            ("hash", self.tr("SHA-256")),
        )
        self._names = {key: label(name, "small") for key, name in names}
        for place, (key, name) in enumerate(names):
            made = self._values[key] = label(DASH, "figure" if place < FIGURES else "", selectable=True)
            made.setAccessibleName(name)
        self._columns = 0
        self._lay_out(len(names))
        self._inputs, self._outputs = label("", wrap=True, selectable=True), label("", wrap=True, selectable=True)
        ends = QGridLayout()
        ends.setHorizontalSpacing(L)
        ends.setVerticalSpacing(XS)
        ends.setColumnStretch(1, 1)
        for line, (name, value) in enumerate(((self.tr("Inputs"), self._inputs), (self.tr("Outputs"), self._outputs))):
            ends.addWidget(label(name, "small"), line, 0, Qt.AlignmentFlag.AlignTop)
            ends.addWidget(value, line, 1)
        self.body.setSpacing(M)
        self.body.addLayout(row(self._name, self._path, None, spacing=M))
        self.body.addLayout(self._figures)
        self.body.addLayout(ends)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._lay_out(len(self._names) if self.width() >= WIDE else FIGURES)

    def minimumSizeHint(self) -> QSize:
        return QSize(NARROWEST, super().minimumSizeHint().height())

    def _lay_out(self, columns: int) -> None:
        """So many figures beside one another."""
        if columns == self._columns:
            return
        self._columns = columns
        for place, key in enumerate(self._names):
            line, at = divmod(place, columns)
            self._figures.addWidget(self._names[key], 2 * line, at)
            bottom = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignBottom
            self._figures.addWidget(self._values[key], 2 * line + 1, at, bottom)
        for at in range(len(self._names)):
            self._figures.setColumnStretch(at, 1 if at < columns else 0)

    def show_model(self, model: Model, entry: LibraryEntry | None, layers: Sequence[Layer]) -> None:
        """Fill in the figures; ``layers`` are those of one item."""
        self._name.setText(model.name)
        self._path.setText(str(model.path) if model.path and (entry is None or entry.kind == "recent") else "")
        values = {
            "parameters": count(sum(layer.parameters for layer in layers)),
            "weights": nbytes(sum(layer.parameter_bytes for layer in layers)),
            "macs": count(sum(layer.macs for layer in layers)),
            "layers": grouped(len(layers)),
            "opset": str(model.opset),
            "hash": f"{model.sha256[:12]}…",
        }
        for key, text in values.items():
            self._values[key].setText(text)
        self._values["hash"].setToolTip(model.sha256)
        self._inputs.setText(_ends(model.inputs))
        self._outputs.setText(_ends(model.outputs))
        self._inputs.setToolTip("\n".join(tensor_text(info) for info in model.inputs))
        self._outputs.setToolTip("\n".join(tensor_text(info) for info in model.outputs))


def tensor_text(info: TensorInfo) -> str:
    """``image  float32  N × 3 × 224 × 224``."""
    return f"{info.name}   {info.dtype}   {shape_text(info.dims)}"


def _ends(infos: Sequence[TensorInfo]) -> str:
    lines = [tensor_text(info) for info in infos[:TENSORS_SHOWN]]
    if len(infos) > TENSORS_SHOWN:
        lines.append(f"… {len(infos) - TENSORS_SHOWN} +")
    return "\n".join(lines)


def _dropped(event: QDropEvent | QDragEnterEvent) -> Path | None:
    """The .onnx file that is dragged here, if it is one."""
    for url in event.mimeData().urls():
        path = Path(url.toLocalFile())
        if url.isLocalFile() and path.suffix.lower() == ".onnx":
            return path
    return None
