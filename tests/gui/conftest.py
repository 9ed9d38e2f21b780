"""The panel under test: offscreen, with folders of its own, and nothing left behind."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from PySide6.QtCore import QSettings
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

if TYPE_CHECKING:
    from gui.bridge import Bridge
    from gui.main_window import MainWindow

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keys, caches, history and settings of this test alone."""
    folder = tmp_path / "home"
    monkeypatch.setenv("SHARDBOARD_HOME", str(folder))
    QSettings.setDefaultFormat(QSettings.Format.IniFormat)
    QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, str(tmp_path / "settings"))
    return folder


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """No process and no thread of the panel may outlive a test."""
    children = set(psutil.Process().children(recursive=True))
    yield
    left = [child for child in psutil.Process().children(recursive=True) if child not in children]
    assert not left, f"processes left behind: {left}"
    threads = [t.name for t in threading.enumerate() if t.name in {"cluster", "agent-stdout"}]
    assert not threads, f"threads left behind: {threads}"


@pytest.fixture
def application(qapp: QApplication) -> QApplication:
    """The application object, themed and named as the panel's."""
    from gui.plurals import EnglishPlurals
    from gui.theme import Theme

    qapp.setOrganizationName("shardboard-tests")
    qapp.setApplicationName("shardboard-tests")
    if qapp.findChild(EnglishPlurals) is None:
        qapp.installTranslator(EnglishPlurals(qapp))
    Theme.of()
    return qapp


@pytest.fixture
def bridge(application: QApplication) -> Iterator[Bridge]:
    """A bridge without a cluster; afterwards its workers have ended."""
    from gui.bridge import Bridge

    made = Bridge()
    yield made
    made.close()
    made.tasks._pool.shutdown(wait=True)


@pytest.fixture
def wait_for(qtbot: QtBot) -> Callable[..., None]:
    """Keep the events going until a condition holds; the second argument is the longest wait in seconds."""

    def wait(condition: Callable[[], object], seconds: float = 60.0) -> None:
        qtbot.waitUntil(lambda: bool(condition()), timeout=int(seconds * 1000))

    return wait


@pytest.fixture
def errors() -> list[str]:
    """What the window has told of errors."""
    return []


@pytest.fixture
def window(application: QApplication, errors: list[str]) -> Iterator[MainWindow]:
    """The whole panel; its agents end with it."""
    from gui.bridge import Bridge
    from gui.main_window import MainWindow

    bridge = Bridge()
    bridge.errorRaised.connect(lambda title, message, hint: errors.append(f"{title}: {message} {hint}"))
    made = MainWindow(bridge, restore=False)
    made.show()
    yield made
    made.close()
    made.deleteLater()
