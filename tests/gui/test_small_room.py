"""What little room does not take away: names, heights, the way of the Tab key, unbroken figures."""

from __future__ import annotations

import pytest
from msgspec import Struct
from PySide6.QtCore import Qt
from PySide6.QtGui import QTextDocument
from PySide6.QtWidgets import QApplication, QLineEdit, QVBoxLayout, QWidget
from pytestqt.qtbot import QtBot

from gui.bench import Line
from gui.widgets.advice import Advice
from gui.widgets.banner import Banner
from gui.widgets.bench_table import RATE, BenchTable
from gui.widgets.clamped_label import EitherLabel
from gui.widgets.dialogs import AddressDialog, PairDialog
from gui.widgets.division_scene import TRACK
from gui.widgets.ribbon_geometry import SQUEEZE, Size, arrange, framed, room_for
from gui.widgets.scroll_area import ScrollArea
from gui.widgets.tips import stacked, whole

LINE = 16.0
pytestmark = pytest.mark.usefixtures("application")


class Told(Struct, frozen=True):
    """As much of a Change as is shown."""

    words: str


def shown(qtbot: QtBot, window: QWidget) -> None:
    """It has the focus of the keys."""
    with qtbot.waitActive(window):
        window.show()
        window.activateWindow()


@pytest.mark.parametrize("nodes", [1, 2, 4, 7, 13, 16, 32])
@pytest.mark.parametrize("low", [True, False])
def test_every_lane_has_room_for_a_name(nodes: int, low: bool) -> None:
    size = Size(900, LINE, room_for(nodes, low=low))
    assert arrange(size, nodes, None, cut=False).lane_height >= LINE - SQUEEZE
    above = 2 + 3 * TRACK + 4  # three kinds of exchange
    for lanes in (lanes for lanes in (1, 2, 4, 8) if nodes > 4 and nodes % lanes == 0):
        height = framed(size, None, lanes, above, usual=0, least=0).lane_height
        assert height * lanes / nodes >= LINE - SQUEEZE - 1, "of each node's band"


def test_rows_stay_where_they_are_when_a_change_is_found_and_the_keys_stay_at_it(qtbot: QtBot) -> None:
    advice = Advice()
    qtbot.addWidget(advice)
    advice.resize(500, advice.sizeHint().height())
    advice.show_bottleneck("workshop's computing")
    shown(qtbot, advice)
    empty = advice.sizeHint().height()
    advice.show_changes((Told("Leave spare out: + 5 %"),))  # type: ignore[arg-type]
    assert advice.sizeHint().height() == empty
    advice.show_changes(())
    assert advice.sizeHint().height() == empty
    advice.show_changes((Told("Leave spare out: + 5 %"),))  # type: ignore[arg-type]
    advice.buttons[0].setFocus()
    advice.show_changes(None)
    assert QApplication.focusWidget() is advice
    advice.show_changes((Told("Move the cut: + 2 %"),))  # type: ignore[arg-type]
    assert QApplication.focusWidget() is advice.buttons[0]


def test_where_a_line_has_no_room_a_shorter_one_stands(qtbot: QtBot) -> None:
    made = EitherLabel()
    qtbot.addWidget(made)
    made.set_either("37.9 ms · busy 100 %", "37.9 ms")
    made.resize(400, 20)
    assert made._shown() == "37.9 ms · busy 100 %"
    made.resize(made.fontMetrics().horizontalAdvance("37.9 ms · busy"), 20)
    assert made._shown() == "37.9 ms"


def test_lines_of_a_file_do_not_widen_the_page(qtbot: QtBot) -> None:
    banner = Banner(slim=True)
    qtbot.addWidget(banner)
    banner.say("The plan was not loaded", "x.json, line 1: a name is missing here.", "bad", "x" * 300 + "\n   ^")
    assert banner.minimumSizeHint().width() < 700


def test_a_figure_at_the_mouse_is_never_broken() -> None:
    document = QTextDocument()
    document.setHtml(stacked(whole("80.5 items/s (−60 %) · 129 ms"), "", "Drop it on another node."))
    document.setTextWidth(60)
    assert document.size().height() > 0  # lays it out
    assert document.begin().layout().lineCount() == 1
    assert document.begin().next().layout().lineCount() > 1


def test_a_question_begins_with_its_first_field(qtbot: QtBot) -> None:
    owner = QWidget()
    qtbot.addWidget(owner)
    for dialog, fields in ((AddressDialog(owner), 1), (PairDialog(owner), 2)):
        shown(qtbot, dialog)
        for field in dialog.findChildren(QLineEdit)[:fields]:
            assert QApplication.focusWidget() is field
            qtbot.keyClick(field, Qt.Key.Key_Tab)
        assert QApplication.focusWidget() is dialog._cancel
        dialog.close()


def test_what_the_tab_key_goes_to_is_scrolled_to(qtbot: QtBot) -> None:
    inside, outside = QWidget(), QLineEdit()
    fields = [QLineEdit() for _ in range(40)]
    column = QVBoxLayout(inside)
    for field in fields:
        column.addWidget(field)
    area, window = ScrollArea(inside), QWidget()
    whole_window = QVBoxLayout(window)
    whole_window.addWidget(outside)
    whole_window.addWidget(area)
    qtbot.addWidget(window)
    window.resize(300, 200)
    shown(qtbot, window)
    outside.setFocus()
    assert fields[-1].visibleRegion().isEmpty()
    fields[-1].setFocus(Qt.FocusReason.BacktabFocusReason)
    assert not fields[-1].visibleRegion().isEmpty()


def test_why_a_strategy_was_not_run_has_the_room_of_its_figures(qtbot: QtBot) -> None:
    table = BenchTable()
    qtbot.addWidget(table)
    table.compared.set_lines((Line("tensor", why="It needs 2 nodes; 1 is here.\nGive it another."),))
    assert table.columnSpan(0, RATE) > 1
    assert table.compared.data(table.compared.index(0, RATE)) == "It needs 2 nodes; 1 is here."
