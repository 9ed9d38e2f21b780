"""The application's style sheet, written from the tokens of one theme.

Widgets opt into a look by a dynamic property ``role``: see :mod:`gui.widgets.basics` for the helpers that set it.
"""

from __future__ import annotations

from collections.abc import Mapping
from string import Template
from typing import Final

from gui.colours import Tokens

TEMPLATE: Final = Template("""
* { font-size: ${px}px; }
QMainWindow, QDialog { background: $window; }
QToolTip { background: $raised; color: $text; border: 1px solid $border_strong; padding: 2px 3px; }
QLabel { background: transparent; }
QLabel[role="title"] { font-size: ${title}px; font-weight: 600; color: $text; }
QLabel[role="heading"] { font-size: ${heading}px; font-weight: 600; color: $text; }
QLabel[role="caption"] { color: $muted; }
QLabel[role="small"] { color: $muted; font-size: ${small}px; }
QLabel[role="figure"] { font-size: ${figure}px; font-weight: 600; color: $text; }
QLabel[role="code"] { font-family: "JetBrains Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
                      font-size: ${code}px; color: $text; }
QLabel[role="stressed"] { font-weight: 700; color: $text; }
QLabel[role="overline"] { color: $muted; font-size: ${small}px; font-weight: 600; }
QLabel[role="good"] { color: $good; }
QLabel[role="warn"] { color: $warn; }
QLabel[role="bad"] { color: $bad; }
QLabel:disabled { color: $faint; }
QLabel[role="bad"]:disabled { color: $muted; }

QFrame[role="card"] { background: $surface; border: 1px solid $border; border-radius: 8px; }
QFrame[role="card"][selected="true"] { border: 1px solid $accent; background: $accent_soft; }
QFrame[role="card"][hover="true"]:hover { border-color: $border_strong; }
QFrame[role="tile"] { background: $sunken; border: 1px solid $border; border-radius: 6px; }
QFrame[role="line"] { background: $border; border: none; max-height: 1px; min-height: 1px; }
QFrame[role="rail"] { background: $rail; border: none; border-right: 1px solid $border; }
QFrame[role="statusline"] { background: $rail; border: none; border-top: 1px solid $border; }
QFrame[role="inspector"] { background: $surface; border: none; border-left: 1px solid $border; }
QFrame[role="banner"] { border-radius: 8px; border: 1px solid $border; background: $surface; }
QFrame[role="banner"][kind="info"] { background: $accent_soft; border-color: $accent_soft; }
QFrame[role="banner"][kind="warn"] { background: $warn_soft; border-color: $warn_soft; }
QFrame[role="banner"][kind="bad"] { background: $bad_soft; border-color: $bad; }
QFrame[role="banner"][kind="good"] { background: $good_soft; border-color: $good_soft; }

QLabel[role="pill"] { border-radius: 9px; padding: 2px 7px; font-size: ${small}px; font-weight: 600;
                      background: $raised; color: $muted; }
QLabel[role="pill"][kind="good"] { background: $good_soft; color: $good; }
QLabel[role="pill"][kind="warn"] { background: $warn_soft; color: $warn; }
QLabel[role="pill"][kind="bad"] { background: $bad_soft; color: $bad; }
QLabel[role="pill"][kind="info"] { background: $accent_soft; color: $accent; }

QToolButton[role="nav"] { background: transparent; border: 1px solid transparent; border-radius: 6px; color: $muted;
                          padding: 8px 10px; text-align: left; font-weight: 500; }
QToolButton[role="nav"]:hover { background: $raised; color: $text; }
QToolButton[role="nav"]:checked { background: $accent_soft; color: $text; font-weight: 600; }
QToolButton[role="nav"]:focus { border-color: $accent; }

QPushButton { background: $raised; color: $text; border: 1px solid $border; border-radius: 6px;
              padding: 6px 14px; min-height: 18px; }
QPushButton:hover { border-color: $border_strong; }
QPushButton:pressed { background: $border; }
QPushButton:focus { border-color: $accent; }
QPushButton:disabled { color: $faint; background: $surface; border-color: $border; }
QPushButton:checked { background: $accent_soft; border-color: $accent; }
QPushButton[role="primary"] { background: $accent; color: $on_accent; border-color: $accent; font-weight: 600; }
QPushButton[role="primary"]:hover { background: $accent_hover; border-color: $accent_hover; }
QPushButton[role="primary"]:focus { border-color: $text; }
QPushButton[role="primary"]:disabled { background: $raised; color: $faint; border-color: $border; }
QPushButton[role="danger"] { color: $bad; }
QPushButton[role="danger"]:hover { border-color: $bad; }
QPushButton[role="danger"]:disabled { color: $faint; }
QPushButton[role="flat"] { background: transparent; border-color: transparent; color: $accent; padding: 6px 8px; }
QPushButton[role="flat"]:hover { background: $raised; }
QPushButton[role="flat"]:focus { border-color: $accent; }
QPushButton[role="flat"]:disabled { color: $faint; background: transparent; border-color: transparent; }
QToolButton { background: transparent; border: 1px solid transparent; border-radius: 6px; padding: 5px; color: $text; }
QToolButton[role="arrow"] { padding: 0; }
QToolButton:hover { background: $raised; }
QToolButton:checked { background: $accent_soft; }
QToolButton:focus { border-color: $accent; }
QToolButton::menu-indicator { image: none; }

QLineEdit, QPlainTextEdit, QTextEdit, QSpinBox, QDoubleSpinBox, QComboBox {
    background: $sunken; color: $text; border: 1px solid $border_strong; border-radius: 6px; padding: 5px 8px;
    min-height: 18px; selection-background-color: $accent; selection-color: $on_accent; }
QLineEdit:focus, QPlainTextEdit:focus, QTextEdit:focus, QSpinBox:focus, QDoubleSpinBox:focus, QComboBox:focus {
    border-color: $accent; }
QLineEdit:disabled, QSpinBox:disabled, QDoubleSpinBox:disabled, QComboBox:disabled {
    color: $faint; border-color: $border; background: $surface; }
QComboBox QLineEdit, QComboBox QLineEdit:focus { border: none; padding: 0; min-height: 0; background: transparent; }
QComboBox::drop-down { subcontrol-origin: padding; subcontrol-position: center right; width: 24px; border: none; }
QComboBox::down-arrow { image: url("$mark_down"); width: 12px; height: 12px; }
QComboBox QAbstractItemView { background: $raised; color: $text; border: 1px solid $border_strong; outline: none;
    padding: 4px; selection-background-color: $accent_soft; selection-color: $text; }
QSpinBox::up-button, QDoubleSpinBox::up-button { subcontrol-origin: border; subcontrol-position: top right;
    width: 22px; border: none; }
QSpinBox::down-button, QDoubleSpinBox::down-button { subcontrol-origin: border; subcontrol-position: bottom right;
    width: 22px; border: none; }
QSpinBox::up-arrow, QDoubleSpinBox::up-arrow { image: url("$mark_up"); width: 10px; height: 10px; }
QSpinBox::down-arrow, QDoubleSpinBox::down-arrow { image: url("$mark_down"); width: 10px; height: 10px; }
QCheckBox, QRadioButton { spacing: 8px; background: transparent; }
QCheckBox::indicator, QRadioButton::indicator { width: 16px; height: 16px; border: 1px solid $border_strong;
    background: $sunken; border-radius: 4px; }
QRadioButton::indicator { border-radius: 9px; }
QCheckBox::indicator:hover, QRadioButton::indicator:hover, QCheckBox::indicator:focus, QRadioButton::indicator:focus {
    border-color: $accent; }
QCheckBox::indicator:checked { background: $accent; border-color: $accent; image: url("$mark_tick"); }
QCheckBox::indicator:checked:focus { border-color: $text; }
QRadioButton::indicator:checked { background: $sunken; border: 5px solid $accent; width: 8px; height: 8px; }
QCheckBox:disabled, QRadioButton:disabled { color: $faint; }
QGroupBox { border: 1px solid $border; border-radius: 8px; margin-top: 10px; padding: 12px; }
QGroupBox::title { subcontrol-origin: margin; left: 10px; padding: 0 4px; color: $muted; }

QSlider::groove:horizontal { height: 4px; background: $border_strong; border-radius: 2px; }
QSlider::sub-page:horizontal { background: $accent; border-radius: 2px; }
QSlider::handle:horizontal { background: $text; width: 14px; height: 14px; margin: -5px 0; border-radius: 7px; }
QSlider::handle:horizontal:hover, QSlider::handle:horizontal:focus { background: $accent; }
QSlider::sub-page:horizontal:disabled { background: $border_strong; }
QSlider::handle:horizontal:disabled { background: $faint; }
QProgressBar { background: $raised; border: none; border-radius: 3px; min-height: 6px; max-height: 6px;
    color: transparent; }
QProgressBar::chunk { background: $accent; border-radius: 3px; }

QTableView, QTreeView, QListView { background: $surface; alternate-background-color: $surface; color: $text;
    border: 1px solid $border; border-radius: 8px; gridline-color: $border; outline: none;
    selection-background-color: $accent_soft; selection-color: $text; }
QTableView[role="bare"], QTreeView[role="bare"], QListView[role="bare"] { border: none; border-radius: 0;
    background: transparent; }
QTableView::item, QTreeView::item, QListView::item { padding: 5px 8px; border: none; }
QTableView::item { border-bottom: 1px solid $border; }
QTableView::item:hover, QTreeView::item:hover, QListView::item:hover { background: $raised; }
QTableView::item:selected, QTreeView::item:selected, QListView::item:selected { background: $accent_soft;
    color: $text; }
QTableView:focus, QTreeView:focus, QListView:focus { border-color: $accent; }
QHeaderView { background: transparent; border: none; }
QHeaderView::section { background: $surface; color: $muted; border: none; border-bottom: 1px solid $border;
    padding: 7px 11px; font-size: ${small}px; font-weight: 600; }
QTableCornerButton::section { background: $surface; border: none; }

QTabWidget::pane { border: none; }
QTabBar { background: transparent; }
QTabBar::tab { background: transparent; color: $muted; padding: 7px 12px; border: none;
    border-bottom: 2px solid transparent; }
QTabBar::tab:hover { color: $text; }
QTabBar::tab:selected { color: $text; border-bottom-color: $accent; font-weight: 600; }
QTabBar::tab:focus { color: $accent; }

QScrollArea { background: transparent; border: none; }
QScrollArea[role="reading"] { border: 1px solid transparent; border-radius: 6px; }
QScrollArea[role="reading"]:focus { border-color: $accent; }
QScrollArea > QWidget > QWidget[role="page"], QWidget[role="page"] { background: transparent; }
QScrollBar:vertical { background: transparent; width: 10px; margin: 0; }
QScrollBar:horizontal { background: transparent; height: 10px; margin: 0; }
QScrollBar::handle { background: $border_strong; border-radius: 4px; margin: 1px; }
QScrollBar::handle:vertical { min-height: 28px; }
QScrollBar::handle:horizontal { min-width: 28px; }
QScrollBar::handle:hover { background: $faint; }
QScrollBar::add-line, QScrollBar::sub-line { width: 0; height: 0; }
QScrollBar::add-page, QScrollBar::sub-page { background: transparent; }
QSplitter::handle { background: transparent; }
QSplitter::handle:hover { background: $border; }
QMenu { background: $raised; color: $text; border: 1px solid $border_strong; border-radius: 6px; padding: 4px; }
QMenu::item { padding: 6px 22px 6px 12px; border-radius: 4px; }
QMenu::item:selected { background: $accent_soft; }
QMenu::item:disabled { color: $faint; }
QMenu::separator { height: 1px; background: $border; margin: 4px 6px; }
""")


def stylesheet(tokens: Tokens, base: int, marks: Mapping[str, str]) -> str:
    """The sheet for ``tokens`` with ordinary text of ``base`` pixels; ``marks`` are paths of the drawn arrows."""
    colours = {name: value for name, value in vars(tokens).items() if isinstance(value, str)}
    sizes = {
        "px": base,
        "small": base - 1,
        "code": base - 2,
        "heading": base + 2,
        "title": base + 9,
        "figure": base + 7,
    }
    return TEMPLATE.substitute(colours, **sizes, **{f"mark_{name}": path for name, path in marks.items()})
