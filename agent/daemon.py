"""Puts an agent together, keeps it running until it is told to stop, and takes it apart again."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Final

import msgspec

from agent.announce import Announcement
from agent.blobs import BlobStore
from agent.control import Control
from agent.data_plane import DataPlane
from agent.limits import Limits
from agent.loading import Loader
from agent.lock import StateLock
from agent.machine import describe, pin_to
from agent.options import Options
from agent.probes import Probes
from agent.telemetry import Meter
from core.errors import InputError
from core.paths import data_dir
from core.plan.form import NodeId
from core.wire.keys import load_key_file, load_or_create_keys
from core.wire.sockets import Wire
from core.wire.trust import TrustStore

_log = logging.getLogger(__name__)

_REFRESH_SECONDS: Final = 30.0
_ANNOUNCER_JOIN_SECONDS: Final = 3.0
_CRASHED: Final = 1
# Where a waiting main thread does not notice signals (Windows), it looks up this often.
_WAIT_SECONDS: Final = None if os.name == "posix" else 0.5


def run_agent(options: Options) -> int:
    """Serve until SIGTERM, SIGINT or, if so asked, the end of stdin. Returns the exit code.

    Raises InputError: a port in use, a damaged key file, a state folder in use. Call it on the main thread.
    """
    state = options.state_dir if options.state_dir is not None else data_dir() / "agent"
    lock = _lock(state)
    try:
        if options.pin is not None and not pin_to(options.pin):
            _log.warning("this system cannot bind a process to a core; --pin is ignored")
        stop = _Stop()
        agent = Agent(options, state, crashed=stop.crash)
        stop.on_signals()
        if options.exit_with_stdin:
            stop.on_stdin_closed()
        agent.start()
        stop.wait()
        if not agent.close():
            # A shard, or the loading of one, is inside onnxruntime and cannot be interrupted. All that must be closed
            # is closed, so the process may end under it.
            sys.stderr.flush()
            os._exit(stop.code)
        return stop.code
    finally:
        lock.close()


class Agent:
    """The parts of an agent. Raises InputError where they cannot be made."""

    def __init__(self, options: Options, state: Path, *, crashed: Callable[[], None]) -> None:
        self._options = options
        keys = load_or_create_keys(state / "keys.json")
        key_file = load_key_file(options.key_file) if options.key_file is not None else None
        self._trust = TrustStore(state / "trusted.json")
        self._wire = Wire(keys, self._trust.allows)
        try:
            self._make(options, state, key_file, crashed)
        except BaseException:
            self._wire.close()
            raise

    def _make(self, options: Options, state: Path, key_file: bytes | None, crashed: Callable[[], None]) -> None:
        wire, trust = self._wire, self._trust
        limits, meter = Limits(options.cpu_limit, options.link_limit), Meter()
        blobs = _open_blobs(state / "blobs", options.blob_limit)
        control_port, pairing_port, data_port = (options.port + i if options.port else 0 for i in range(3))
        probes = Probes(trust)
        self._data = DataPlane(
            wire,
            options.bind,
            data_port,
            trust=trust,
            probes=probes,
            blobs=blobs,
            limits=limits,
            meter=meter,
            crashed=crashed,
        )
        self._info = describe(NodeId(wire.keys.public), options, self._data.port)
        loader = Loader(
            self._info.id, self._data, blobs, trust, threads=options.threads, memory_limit=self._info.memory_limit
        )
        self._control = Control(
            wire,
            options.bind,
            (control_port, pairing_port),
            info=self._info,
            trust=trust,
            probes=probes,
            blobs=blobs,
            data=self._data,
            loader=loader,
            limits=limits,
            meter=meter,
            key_file=key_file,
            paired=_say_paired,
            crashed=crashed,
        )
        announcement = Announcement(self._info, self._control.port, self._control.pairing_port, options.name)
        self._announcer = _Announcer(announcement) if options.announce else None

    def start(self) -> None:
        self._data.start()
        self._control.start()
        if self._announcer is not None:
            self._announcer.start()
        _log.info("%s listens on %s port %d", self._info.name, self._options.bind, self._control.port)
        if self._control.code is not None:
            _say_code(self._control.code, sorted(self._trust.clients.values()))
        if self._options.ready_json:
            sys.stdout.buffer.write(msgspec.json.encode(self._ready()) + b"\n")
            sys.stdout.flush()

    def close(self) -> bool:
        """Stop everything. False: something is still inside onnxruntime."""
        if self._announcer is not None:
            self._announcer.stop()
        done = self._control.close()
        done = self._data.close() and done
        self._wire.close()
        if self._announcer is not None:
            self._announcer.join()
        return done

    def _ready(self) -> dict[str, object]:
        return {
            "id": self._info.id,
            "name": self._info.name,
            "control_port": self._control.port,
            "data_port": self._data.port,
            "pairing_port": self._control.pairing_port,
            "pid": os.getpid(),
        }


class _Announcer:
    """Registers with mDNS, which takes its time, and registers again when the machine's addresses change."""

    def __init__(self, announcement: Announcement) -> None:
        self._announcement = announcement
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="announcer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def join(self) -> None:
        """Wait until the others have been told."""
        self._thread.join(_ANNOUNCER_JOIN_SECONDS)

    def _work(self) -> None:
        problem = self._announcement.start()
        while True:
            if problem is not None:
                _log.warning("%s", problem)
            if self._stop.wait(_REFRESH_SECONDS):
                break
            problem = self._announcement.refresh()
        self._announcement.close()


class _Stop:
    """Whatever may end the agent: signals, the end of stdin, the failure of one of its threads."""

    def __init__(self) -> None:
        self.code = 0
        self._asked = threading.Event()

    def crash(self) -> None:
        self.code = _CRASHED
        self._asked.set()

    def wait(self) -> None:
        while not self._asked.wait(_WAIT_SECONDS):
            pass

    def on_signals(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)

    def on_stdin_closed(self) -> None:
        threading.Thread(target=self._read_stdin, name="stdin", daemon=True).start()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._asked.set()

    def _read_stdin(self) -> None:
        # Not sys.stdin: its lock, held by a thread that waits for input, would get in the way of the exit.
        try:
            while os.read(0, 4096):
                pass
        except OSError:
            _log.info("stdin cannot be read, which counts as closed")
        self._asked.set()


def _lock(state: Path) -> StateLock:
    try:
        return StateLock(state)
    except OSError as error:
        raise InputError(f"The state folder {state} cannot be used: {error.strerror or error}.") from error


def _open_blobs(root: Path, limit: int) -> BlobStore:
    try:
        return BlobStore(root, limit)
    except OSError as error:
        raise InputError(f"The blob store {root} cannot be used: {error.strerror or error}.") from error


def _say_code(code: str, paired: list[str]) -> None:
    known = f"Paired with {', '.join(paired)}. To pair another workstation" if paired else "To use this node"
    print(f"{known}, add it in Shardboard with this code: {code}", file=sys.stderr, flush=True)


def _say_paired(name: str, next_code: str | None) -> None:
    _log.info("paired with %s", name)
    if next_code is not None:
        print(f"The code for the next workstation: {next_code}", file=sys.stderr, flush=True)
