"""Work leaves the GUI thread and comes back to it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import pytest
from PySide6.QtCore import QObject
from PySide6.QtWidgets import QApplication

from core.errors import InputError, ShardboardError
from gui.tasks import Tasks

Wait = Callable[..., None]


@pytest.fixture
def tasks(application: QApplication) -> object:
    parent = QObject()
    made = Tasks(parent)
    yield made
    made.close()


def test_work_runs_elsewhere_and_its_result_arrives_here(tasks: Tasks, wait_for: Wait) -> None:
    here = threading.get_ident()
    seen: list[tuple[int, int]] = []
    tasks.start(threading.get_ident, lambda there: seen.append((there, threading.get_ident())))
    wait_for(lambda: seen)
    there, delivered = seen[0]
    assert there != here
    assert delivered == here


def test_errors_for_people_arrive_as_they_are(tasks: Tasks, wait_for: Wait) -> None:
    def refuse() -> None:
        raise InputError("No.", hint="Ask again.")

    errors: list[ShardboardError] = []
    tasks.start(refuse, None, errors.append)
    wait_for(lambda: errors)
    assert isinstance(errors[0], InputError)
    assert errors[0].hint == "Ask again."


def test_other_errors_are_logged_and_arrive_too(tasks: Tasks, wait_for: Wait, caplog: pytest.LogCaptureFixture) -> None:
    errors: list[ShardboardError] = []
    with caplog.at_level(logging.ERROR, "gui.tasks"):
        tasks.start(lambda: 1 // 0, None, errors.append)
        wait_for(lambda: errors)
    assert "ZeroDivisionError" in str(errors[0])
    assert "a task of the panel failed" in caplog.text


def test_calls_from_many_threads_are_all_made_in_order_of_each(tasks: Tasks, wait_for: Wait) -> None:
    seen: list[tuple[int, int]] = []

    def post(worker: int) -> None:
        for i in range(200):
            tasks.post(lambda i=i: seen.append((worker, i)))

    threads = [threading.Thread(target=post, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(seen) == 800)
    for worker in range(4):
        assert [i for w, i in seen if w == worker] == list(range(200))


def test_nothing_is_delivered_after_closing(tasks: Tasks, application: QApplication) -> None:
    seen: list[int] = []
    release = threading.Event()
    tasks.start(lambda: release.wait(60), lambda _ok: seen.append(1))
    tasks.post(lambda: seen.append(2))
    tasks.close()
    release.set()
    tasks.post(lambda: seen.append(3))
    for _ in range(5):
        application.processEvents()
    assert seen == []
