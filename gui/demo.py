"""The guided tour: local agents, a bundled model, both strategies, a deployment and a run, by the panel itself.

With a display the tour ends with the model running and leaves the person in control. Without one it goes through all
pages, saves a picture of each, writes the run's report and ends the program.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
from PySide6.QtCore import QObject, QTimer
from PySide6.QtWidgets import QApplication

from core.cluster.deployment import Deployment
from core.cluster.node import NodeState
from core.cost.types import Prediction
from core.errors import InputError, ShardboardError
from core.plan.form import PlanRequest
from core.run.report import RunReport
from gui.bridge import Phase
from gui.main_window import PAGE_NAMES, MainWindow
from gui.pages.partition import PartitionPage

MODEL: Final = "digits-cnn"
LIMITED: Final = 0.5
"""CPU share of the last agent, so that the nodes differ."""
POLL_MS: Final = 50
SETTLE_MS: Final = 600
LIMIT_SECONDS: Final = {
    "nodes": 25.0,
    "model": 15.0,
    "prediction": 60.0,
    "deployment": 20.0,
}
"""Longest wait for each step; the tour fails in words when one takes longer."""
PATIENCE_SECONDS: Final = 30.0
"""To measure this machine and the plan, so that what is foretold holds; after that the estimate has to do."""
MICRO_BATCH: Final = 30
LAST_SHARE: Final = 0.65
"""Of the time to run, for the last strategy."""


class Demo(QObject):
    """Steps from one condition to the next; each has a time limit. GUI thread."""

    def __init__(self, window: MainWindow, options: argparse.Namespace, *, interactive: bool) -> None:
        super().__init__(window)
        self.exit_code = 0
        self._window, self._bridge = window, window.bridge
        self._nodes: int = options.nodes
        self._seconds: float = options.seconds
        self._pictures: Path | None = options.screenshots
        self._result: Path | None = options.result
        self._interactive = interactive
        self._strategies = ["replicate", "pipeline"] if self._nodes > 1 else ["single"]
        self._asked = self._request(self._strategies[0])
        self._asked_of: Deployment | None = None
        self._ready: Callable[[], bool] = lambda: False
        self._then: Callable[[], None] = lambda: None
        self._waiting_for = ""
        self._left = 0.0
        self._patient_until = 0.0
        self._poll = QTimer(self)
        self._poll.setInterval(POLL_MS)
        self._poll.timeout.connect(self._look)
        self._bridge.errorRaised.connect(self._error)
        self._bridge.runFinished.connect(self._finished)
        self._bridge.profileInterrupted.connect(self._measure_again)

    # ------------------------------------------------------------ the tour

    def start(self) -> None:
        """Raises nothing: what goes wrong becomes words on stderr and ``exit_code``."""
        try:
            self._check_targets()
        except ShardboardError as error:
            self._fail(error.exit_code, str(error))
            return
        limits = [1.0] * (self._nodes - 1) + [LIMITED] if self._nodes > 1 else [1.0]
        self._bridge.start(local=self._nodes, cpu_limits=limits)
        self._bridge.openModel(MODEL)
        self._wait("nodes", self._all_ready, self._show_nodes)

    def _check_targets(self) -> None:
        if not 1 <= self._nodes <= 16:
            raise InputError(f"The demo cannot use {self._nodes} nodes.", hint="Choose 1 to 16.")
        try:
            if self._pictures is not None:
                self._pictures.mkdir(parents=True, exist_ok=True)
            if self._result is not None:
                self._result.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{error.filename} cannot be written: {error.strerror}.") from error

    def _all_ready(self) -> bool:
        own = [n for n in self._bridge.nodes if self._bridge.is_local(n.id)]
        ready = [n for n in own if n.state is NodeState.READY and n.id in self._bridge.speeds]
        return len(ready) >= self._nodes

    def _show_nodes(self) -> None:
        self._window.show_page("nodes")
        self._wait("model", lambda: self._bridge.model is not None, self._show_model)

    def _show_model(self) -> None:
        self._window.show_page("model")
        self._pause(self._next_strategy)

    def _next_strategy(self) -> None:
        """Show a strategy on the Partition page until its prediction is there, then deploy it."""
        self._window.show_page("partition")
        self._choose(self._strategies.pop(0))
        self._patient_until = self._patient_until or time.monotonic() + PATIENCE_SECONDS
        self._wait("prediction", self._is_predicted, lambda: self._pause(self._deploy))

    def _choose(self, strategy: str) -> None:
        page = self._window.pages["partition"]
        assert isinstance(page, PartitionPage), "the page of that name"
        self._asked = self._request(strategy)
        page.choose(self._asked)

    def _request(self, strategy: str) -> PlanRequest:
        nodes = tuple(n.id for n in self._bridge.nodes if self._bridge.is_local(n.id))
        return PlanRequest(strategy=strategy, nodes=nodes, micro_batch=MICRO_BATCH)

    def _is_predicted(self) -> bool:
        request, asked = self._bridge.request, self._asked
        if request is None or (request.strategy, request.micro_batch) != (asked.strategy, asked.micro_batch):
            return False
        if not isinstance(self._bridge.prediction, Prediction):
            return False
        return self._bridge.settled or time.monotonic() > self._patient_until

    def _deploy(self) -> None:
        if self._interactive and self._strategies:
            self._next_strategy()
            return
        self._asked_of = self._bridge.deployment
        self._bridge.deploy()
        self._wait("deployment", self._is_deployed, self._run)

    def _is_deployed(self) -> bool:
        return self._bridge.phase is Phase.DEPLOYED and self._bridge.deployment is not self._asked_of

    def _run(self) -> None:
        self._picture("partition")
        samples = str(self._samples())
        self._window.show_page("run")
        if self._interactive:
            self._bridge.run(samples, repeat=1_000_000)
            return
        last = not self._strategies
        seconds = self._seconds * (LAST_SHARE if last else 1.0 - LAST_SHARE)
        self._bridge.run(samples, seconds=seconds)
        if last:
            self._at(seconds * 0.4, lambda: self._picture_of("run", back="monitor"))
            self._at(seconds * 0.75, lambda: self._picture_of("nodes", back="monitor"))
            self._at(seconds * 0.95, lambda: self._picture("monitor"))

    def _samples(self) -> Path:
        entry = self._bridge.entry
        assert entry is not None, "the model came from the library"
        assert entry.samples is not None, "bundled models have samples"
        return entry.samples

    def _finished(self, report: RunReport) -> None:
        if self._result is not None:
            self._result.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
        if self._interactive:
            return
        if self._strategies:
            self._next_strategy()
            return
        self._bridge.historyChanged.connect(lambda: self._pause(self._last_pictures))

    def _last_pictures(self) -> None:
        self._picture_of("model")
        self._window.show_page("history")
        self._pause(self._end)

    def _end(self) -> None:
        self._picture("history")
        self._window.close()

    # ------------------------------------------------------------ pictures

    def _picture_of(self, page: str, back: str = "") -> None:
        """Bring the page to the front, take its picture, and go back where wanted."""
        self._window.show_page(page)
        QApplication.processEvents()
        self._picture(page)
        if back:
            self._window.show_page(back)

    def _picture(self, page: str) -> None:
        if self._pictures is None or self._interactive:
            return
        number = PAGE_NAMES.index(page) + 1
        path = self._pictures / f"{number:02d}-{page}.png"
        if not self._window.grab().save(str(path)):
            self._fail(InputError.exit_code, f"{path} cannot be written.")

    def _at(self, seconds: float, call: Callable[[], None]) -> None:
        QTimer.singleShot(int(seconds * 1000), call)

    # ------------------------------------------------------------ waiting

    def _wait(self, what: str, ready: Callable[[], bool], then: Callable[[], None]) -> None:
        self._waiting_for, self._ready, self._then = what, ready, then
        self._left = LIMIT_SECONDS[what]
        self._poll.start()

    def _look(self) -> None:
        if self._ready():
            self._poll.stop()
            self._then()
            return
        self._left -= POLL_MS / 1000
        if self._left <= 0:
            self._fail(4, f"The demo waited too long for: {self._waiting_for}. {self._state_words()}")

    def _state_words(self) -> str:
        nodes = [f"{n.name} is {n.state}{': ' + n.reason if n.reason else ''}" for n in self._bridge.nodes]
        return "; ".join([*nodes, self._bridge.prediction_problem]).strip("; ")

    def _pause(self, then: Callable[[], None]) -> None:
        """Let the page settle before the next step, so that a person can follow and pictures are whole."""
        QTimer.singleShot(SETTLE_MS if not self._interactive else 2 * SETTLE_MS, then)

    def _measure_again(self, mark: object) -> None:
        """A demonstration asks nobody."""
        if mark is not None and not self._bridge.profiling:
            self._bridge.measureProfile()

    def _error(self, title: str, message: str, hint: str) -> None:
        if not self._interactive:
            self._fail(4, f"{title}: {message} {hint}".strip())

    def _fail(self, code: int, words: str) -> None:
        if self.exit_code:
            return
        self._poll.stop()
        self.exit_code = code
        print(words, file=sys.stderr)
        if not self._interactive:
            self._window.close()
