"""The small questions of the Nodes page. Each dialog only asks; the page acts on ``accepted``."""

from __future__ import annotations

from typing import Final

from PySide6.QtCore import QRegularExpression
from PySide6.QtGui import QRegularExpressionValidator
from PySide6.QtWidgets import QDialog, QFormLayout, QLabel, QLineEdit, QPushButton, QSpinBox, QWidget

from gui.theme import XL, L, M, S
from gui.widgets.basics import button, column, label, row

DEFAULT_PORT: Final = 7420


def split_address(text: str, default_port: int = DEFAULT_PORT) -> tuple[str, int] | None:
    """("host", port) of "host", "host:port" or "[v6]:port"; None when it is none of these."""
    text = text.strip()
    host, port = text, str(default_port)
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            return None
        port = rest[1:] or port
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    if not host or " " in host or not port.isdecimal() or not 0 < int(port) < 65536:
        return None
    return host, int(port)


class Question(QDialog):
    """Title, explanation, a form, Cancel and one primary button that is enabled when ``is_complete``."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setModal(True)
        self.setMinimumWidth(460)
        self._heading: QLabel = label("", "heading")
        self._text: QLabel = label("", "caption", wrap=True)
        self.form = QFormLayout()
        self.form.setHorizontalSpacing(L)
        self.form.setVerticalSpacing(M)
        self.form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self.act: QPushButton = button("", self.accept, role="primary")
        self.act.setDefault(True)
        self._cancel = button(self.tr("Cancel"), self.reject)
        self._last: QWidget | None = None
        buttons = row(None, self._cancel, self.act, spacing=S)
        self.setLayout(column(self._heading, self._text, self.form, buttons, spacing=L, margins=(XL, XL, XL, L)))

    def say(self, title: str, text: str, act: str) -> None:
        self.setWindowTitle(title)
        self._heading.setText(title)
        self._text.setText(text)
        self.act.setText(act)

    def ask(self, name: str, field: QWidget) -> None:
        """Add a line to the form."""
        field.setAccessibleName(name)
        self.form.addRow(name, field)
        if self._last is None:
            field.setFocus()
        else:
            QWidget.setTabOrder(self._last, field)
        QWidget.setTabOrder(field, self._cancel)
        self._last = field
        if isinstance(field, QLineEdit):
            field.textChanged.connect(lambda _text: self.act.setEnabled(self.is_complete()))
        self.act.setEnabled(self.is_complete())

    def is_complete(self) -> bool:
        return True


class AddressDialog(Question):
    """Asks for the address of a node that discovery does not find."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self._address = QLineEdit()
        self._address.setPlaceholderText(self.tr("192.168.1.20 or lab-pc:7420"))
        self.say(
            self.tr("Add a node by address"),
            self.tr(
                "For a machine that is not found by itself. It must run shardboard-agent and know this workstation: "
                "either by a shared key file, or by pairing once."
            ),
            self.tr("Add"),
        )
        self.ask(self.tr("Address"), self._address)

    def is_complete(self) -> bool:
        return split_address(self._address.text()) is not None

    def address(self) -> tuple[str, int]:
        """Host and control port."""
        found = split_address(self._address.text())
        assert found is not None, "accepted only when complete"
        return found


class PairDialog(Question):
    """Asks for a node's address and the one-time code it shows."""

    def __init__(self, parent: QWidget, host: str = "", pairing_port: int | None = None) -> None:
        super().__init__(parent)
        self._address = QLineEdit(host if pairing_port is None or not host else f"{host}:{pairing_port}")
        self._address.setPlaceholderText(self.tr("192.168.1.20"))
        self._code = QLineEdit()
        self._code.setPlaceholderText("XXXX-XXXX-XX")
        self._code.setValidator(QRegularExpressionValidator(QRegularExpression("[A-Za-z0-9 -]{0,14}"), self._code))
        self.say(
            self.tr("Pair with a node"),
            self.tr(
                "An agent that no workstation was paired with shows a one-time code when it starts. "
                "Typing it here makes the two know each other for good."
            ),
            self.tr("Pair"),
        )
        self.ask(self.tr("Address"), self._address)
        self.ask(self.tr("Code"), self._code)
        if host:
            self._code.setFocus()

    def is_complete(self) -> bool:
        code = self._code.text().replace("-", "").replace(" ", "")
        return len(code) == 10 and split_address(self._address.text()) is not None

    def answer(self) -> tuple[str, int, str]:
        """Host, pairing port, code."""
        found = split_address(self._address.text(), DEFAULT_PORT + 1)
        assert found is not None, "accepted only when complete"
        return found[0], found[1], self._code.text().strip()


class LocalAgentsDialog(Question):
    """Asks how many agents to start on this machine."""

    def __init__(self, parent: QWidget, cores: int) -> None:
        super().__init__(parent)
        self._count = QSpinBox()
        self._count.setRange(1, 16)
        self._count.setValue(min(3, max(2, cores)))
        self.say(
            self.tr("Start local agents"),
            self.tr(
                "Agents on this machine, one thread each, to try things out without other machines. "
                "They end with the panel."
            ),
            self.tr("Start"),
        )
        self.ask(self.tr("Number of agents"), self._count)

    def count(self) -> int:
        return self._count.value()
