"""Limits, telemetry, heartbeats and what an idle agent costs."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import psutil
import pytest

from core.wire.frames import decode_header, read_tensors
from core.wire.messages import (
    Done,
    Failure,
    InfoPush,
    Ping,
    Reserve,
    SetLimits,
    Subscribe,
    TelemetryPush,
    Tensors,
)
from tests.agent.driver import (
    WAIT,
    AgentProcess,
    Linear,
    Workstation,
    cpu_seconds,
    deploy_linear,
)

X = np.ones((2, 8), np.float32)
Start = Callable[..., AgentProcess]
NewStation = Callable[..., Workstation]


def test_memory_limit_is_honoured_with_figures(start: Start, new_station: NewStation) -> None:
    agent = start("--memory-limit", "300M")
    control = new_station(agent).control(agent)
    assert control.hello().info.memory_limit == 300 * 1024**2
    refused = control.ask(Reserve("d", "desk", 290 * 1024**2))
    assert isinstance(refused, Failure)
    assert refused.code == "memory"
    assert "290 MiB" in refused.message
    assert "300 MiB" in refused.message
    assert control.ask(Reserve("d", "desk", 50 * 1024**2)) == Done()


def test_telemetry_and_limits(start: Start, new_station: NewStation) -> None:
    agent = start()
    control, data = deploy_linear(new_station(agent), agent, Linear(8, 3))
    assert control.ask(Subscribe(0.1)) == Done()
    for seq in range(100):
        data.send("d", 1, seq, {"x": X})
        data.result()
    assert control.ask(SetLimits(cpu_limit=0.5, link_limit=80_000_000)) == Done()
    info = next(p.info for p in control.pushed if isinstance(p, InfoPush))
    assert (info.cpu_limit, info.link_limit) == (0.5, 80_000_000)
    seen = [p.telemetry for p in control.pushed if isinstance(p, TelemetryPush)]
    while sum(len(t.executions) for t in seen) < 64 or len(seen) < 5:
        _, push = control.receive()
        if isinstance(push, TelemetryPush):
            seen.append(push.telemetry)
    last = seen[-1]
    assert (last.deployment, last.owner) == ("d", "desk")
    (load,) = last.shards
    assert (load.items, load.runs, load.sent, load.received) == (200, 100, 100 * 2 * 3 * 4, 100 * X.nbytes)
    assert load.seconds > 0
    assert last.data_received == 100 * X.nbytes
    assert last.data_sent == 100 * 2 * 3 * 4
    assert isinstance(control.ask(SetLimits(cpu_limit=7.0)), Failure)


def test_a_limited_link_takes_its_time_and_blocks_nothing(start: Start, new_station: NewStation) -> None:
    agent = start("--link-limit", "8mbit")
    control, data = deploy_linear(new_station(agent), agent, Linear(8, 3))
    rows = np.ones((25_000, 8), np.float32)  # 800 kB in, 300 kB out: 0.8 s and 0.3 s
    began = time.monotonic()
    data.send("d", 1, 0, {"x": rows})
    answered = 0
    while (frames := data.channel.recv()) is None:
        assert control.ask(Ping()) == Done()
        answered += 1
        assert time.monotonic() - began < WAIT
    assert time.monotonic() - began > 1.0
    assert answered > 3, "a request waited for the link"
    header = decode_header(frames[0])
    assert isinstance(header, Tensors)
    assert read_tensors(header, frames[1:])["y"].shape == (25_000, 3)
    assert control.ask(SetLimits(link_limit=0)) == Done()
    began = time.monotonic()
    for seq in range(1, 41):
        data.send("d", 1, seq, {"x": rows})
        data.result()
    assert time.monotonic() - began < 40 * 1.0, "it is limited no longer"


def test_heartbeats_are_prompt_while_shards_run(start: Start, new_station: NewStation) -> None:
    agent = start()
    control, data = deploy_linear(new_station(agent), agent, Linear(512, 2048))
    rows = np.ones((400, 512), np.float32)
    for seq in range(60):
        data.send("d", 1, seq, {"x": rows})
    come = []
    for _ in range(3):
        assert control.ask(Ping()) == Done()
        while data.channel.recv() is not None:
            come.append(1)
    assert len(come) < 60, "requests waited for the shards"
    for _ in range(60 - len(come)):
        data.result()


@pytest.mark.slow
def test_an_idle_agent_sleeps(start: Start, new_station: NewStation) -> None:
    """``tests.bench.agent_idle`` tells what it takes."""
    agent = start()
    control, data = deploy_linear(new_station(agent), agent, Linear(8, 3))
    data.send("d", 1, 0, {"x": X})
    data.result()
    assert control.ask(Ping()) == Done()
    before, began = cpu_seconds(agent.process.pid), time.monotonic()
    time.sleep(2.0)  # what is measured is doing nothing
    share = (cpu_seconds(agent.process.pid) - before) / (time.monotonic() - began)
    assert share < 0.3, "a thread that spins takes a whole core"
    assert psutil.Process(agent.process.pid).memory_info().rss < 160 * 1024**2
