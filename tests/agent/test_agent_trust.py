"""Who may use a node: strangers, rivals, a second program, a silent owner, pairing by code."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest

from core.errors import UnreachableError
from core.wire.keys import keys_from_code, new_keys
from core.wire.messages import (
    CancelJob,
    Done,
    Failure,
    Ping,
    Release,
    Reserve,
    ShardFailed,
)
from core.wire.pairing import pair
from tests.agent.driver import (
    AgentProcess,
    Linear,
    Workstation,
    deploy_linear,
    load,
    until,
)

X = np.ones((2, 8), np.float32)
Start = Callable[..., AgentProcess]
NewStation = Callable[..., Workstation]


def test_strangers_are_refused_on_both_sockets(agent_with_linear: tuple[AgentProcess, Workstation, Linear]) -> None:
    agent, _, _ = agent_with_linear
    stranger = Workstation()
    try:
        control, data = stranger.control(agent), stranger.data(agent)
        until(lambda: control.channel.problem() == "refused")
        until(lambda: data.channel.problem() == "refused")
    finally:
        stranger.close()


def test_one_deployment_owns_a_node_and_the_other_is_told_who(start: Start, new_station: NewStation) -> None:
    agent = start()
    first, second = new_station(agent, name="lab"), new_station(agent, name="desk")
    control, data = deploy_linear(first, agent, Linear(8, 3))
    rival = second.control(agent)
    told = rival.ask(Reserve("mine", "desk", 100))
    assert isinstance(told, Failure)
    assert told.code == "owned"
    assert "desk" in told.message or "lab" in told.message
    assert isinstance(load(rival, "d", 1, [], [], {}), Failure)
    assert isinstance(rival.ask(Release("d")), Failure)
    assert rival.ask(CancelJob("d", 1)) == Done()
    thief = second.data(agent)
    answer = thief.attach("d", 1)
    assert isinstance(answer, ShardFailed)
    assert "another workstation" in answer.message
    thief.send("d", 1, 0, {"x": X})
    assert "do not come from this sender" in thief.failure().message
    data.send("d", 1, 0, {"x": X})
    assert data.result()[0] == 0
    assert control.ask(Release("d")) == Done()
    assert rival.ask(Reserve("mine", "desk", 100)) == Done()


def test_a_second_program_on_the_same_workstation(start: Start, new_station: NewStation) -> None:
    agent = start()
    station = new_station(agent)
    control, _ = deploy_linear(station, agent, Linear(8, 3))
    again = station.control(agent)
    assert again.ask(Ping()) == Done()
    second = Workstation(station.wire.keys)
    try:
        other = second.control(agent)
        assert isinstance(other.ask(Reserve("mine", "desk", 100)), Failure)
        control.channel.close()
        assert isinstance(other.ask(Reserve("mine", "desk", 100)), Failure), "the first is still there, connected anew"
        again.channel.close()
        until(lambda: other.ask(Reserve("mine", "desk", 100)) == Done())
    finally:
        second.close()


@pytest.mark.slow
def test_a_silent_owner_can_be_replaced(start: Start, new_station: NewStation) -> None:
    agent = start()
    first, second = new_station(agent), new_station(agent)
    began = time.monotonic()  # the owner is heard for the last time after this
    control, _ = deploy_linear(first, agent, Linear(8, 3))
    rival = second.control(agent)
    del control
    until(lambda: rival.ask(Reserve("mine", "desk", 100)) == Done(), timeout=90)
    assert time.monotonic() - began > 8


def test_pairing_by_code_from_the_agents_own_output(start: Start) -> None:
    agent = start(shared_key=False)
    code = until(lambda: _after(agent, "code: "))
    keys = new_keys()
    reply = pair("127.0.0.1", agent.pairing_port, keys_from_code(code), keys, "desk")
    assert (reply.id, reply.control_port) == (agent.id, agent.control_port)
    station = Workstation(keys)
    try:
        assert station.control(agent).hello().info.id == agent.id
    finally:
        station.close()
    next_code = until(lambda: _after(agent, "next workstation: "))
    assert next_code != code
    with pytest.raises(UnreachableError):
        pair("127.0.0.1", agent.pairing_port, keys_from_code(code), new_keys(), "thief", timeout=0.5)


def _after(agent: AgentProcess, words: str) -> str:
    return agent.errors.partition(words)[2].strip()
