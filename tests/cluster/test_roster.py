from __future__ import annotations

import pytest
from msgspec.structs import replace

from core import PROTOCOL_VERSION
from core.cluster.effects import Connect, Disconnect, Effect, Fail, PairWithKeyFile, Say, Sighting, Tell
from core.cluster.events import NodeChanged, NodeRemoved, TelemetryArrived
from core.cluster.node import Node, NodeState
from core.cluster.roster import ATTEMPT_SECONDS, Roster
from core.plan.form import NodeId
from core.wire.messages import Failure, NodeInfo, Ping, Subscribe, Telemetry, Welcome

ID = NodeId("a" * 40)
SEEN = Sighting(ID, "pi-1", ("10.0.0.5",), 7420, 7421, "mdns")
INFO = NodeInfo(
    id=ID,
    name="pi-1",
    version="0.1.0",
    hostname="pi",
    system="Linux",
    cpu="ARM",
    cores=4,
    threads=4,
    memory_total=1 << 30,
    memory_limit=1 << 30,
    cpu_limit=1.0,
    link_limit=0,
    data_port=7422,
    engine="onnxruntime",
)
WELCOME = Welcome(PROTOCOL_VERSION, INFO)


def telemetry(deployment: str = "", owner: str = "") -> Telemetry:
    return Telemetry(0.0, 0.1, (0.1,), 0.1, 1, 2, 3, 0.0, 0.0, 0, 0, None, None, 0, (), (), deployment, owner)


def roster(*, key_file: bool = False) -> Roster:
    return Roster("desk", holds_key_file=key_file)


def ready(one: Roster, now: float = 0.0) -> Roster:
    one.sighted(SEEN, now)
    one.welcomed(ID, WELCOME, now)
    one.telemetry(ID, telemetry(), now)
    return one


def node(one: Roster) -> Node:
    found = one.node(ID)
    assert found is not None
    return found


def kinds(effects: list[Effect]) -> list[type]:
    return [type(effect) for effect in effects]


def test_an_announced_node_is_shown_and_greeted() -> None:
    one = roster()
    effects = one.sighted(SEEN, 0.0)
    assert kinds(effects) == [Tell, Connect]
    assert effects[1] == Connect(ID, "10.0.0.5", 7420, effects[1].hello)  # type: ignore[union-attr]
    assert node(one).state is NodeState.DISCOVERED


def test_welcome_then_telemetry_makes_it_ready_and_a_deployment_busy() -> None:
    one = roster()
    one.sighted(SEEN, 0.0)
    assert Say(ID, Subscribe()) in one.welcomed(ID, WELCOME, 0.1)
    assert node(one).state is NodeState.TRUSTED
    effects = one.telemetry(ID, telemetry(), 0.2)
    assert node(one).state is NodeState.READY
    assert kinds(effects) == [Tell, Tell]
    one.telemetry(ID, telemetry("d1", "lab-2"), 0.4)
    assert (node(one).state, node(one).owner, node(one).reason) == (NodeState.BUSY, "lab-2", "held by lab-2")
    quiet = one.telemetry(ID, telemetry("d1", "lab-2"), 0.6)
    assert [type(e.event) for e in quiet if isinstance(e, Tell)] == [TelemetryArrived]
    one.telemetry(ID, telemetry(), 0.8)
    assert (node(one).state, node(one).owner, node(one).reason) == (NodeState.READY, "", "")


def test_it_is_pinged_each_second_and_lost_after_three_of_silence() -> None:
    one = ready(roster())
    assert one.tick(0.9) == []
    assert one.tick(1.0) == [Say(ID, Ping())]
    assert one.tick(1.5) == []
    assert one.tick(2.0) == [Say(ID, Ping())]
    one.tick(2.9)
    assert node(one).state is NodeState.READY
    effects = one.tick(3.0)
    assert node(one).state is NodeState.LOST
    assert Fail in kinds(effects)
    assert Connect in kinds(effects)
    assert "3 s" in node(one).reason


def test_any_message_is_a_sign_of_life() -> None:
    one = ready(roster())
    for now in range(1, 20):
        one.heard(ID, float(now))
        one.tick(now + 0.5)
    assert node(one).state is NodeState.READY


def test_a_node_that_comes_back_at_another_port_is_the_same_node() -> None:
    one = ready(roster())
    one.tick(3.0)
    effects = one.sighted(replace(SEEN, control_port=9000), 5.0)
    assert Connect(ID, "10.0.0.5", 9000, effects[-1].hello) == effects[-1]  # type: ignore[union-attr]
    one.welcomed(ID, WELCOME, 5.1)
    one.telemetry(ID, telemetry(), 5.2)
    assert node(one).state is NodeState.READY
    assert len(one.nodes()) == 1


def test_an_announcement_does_not_move_a_node_that_talks_to_us() -> None:
    one = ready(roster())
    one.heard(ID, 1.0)
    assert one.sighted(replace(SEEN, addresses=("10.0.0.66",)), 1.1) == []
    assert node(one).host == "10.0.0.5"
    effects = one.tick(2.7)  # it fell silent: now the announcement is worth a try
    assert [effect.host for effect in effects if isinstance(effect, Connect)] == ["10.0.0.66"]
    assert node(one).state is NodeState.READY


def test_a_broken_connection_is_made_anew_without_losing_the_node() -> None:
    one = ready(roster())
    assert kinds(one.disconnected(ID, 0.5)) == [Connect]
    assert not one.is_linked(ID)
    assert node(one).state is NodeState.READY
    one.welcomed(ID, WELCOME, 0.7)
    assert one.is_linked(ID)


def test_no_answer_is_said_in_words_and_tried_again_at_the_next_address() -> None:
    one = roster()
    one.sighted(replace(SEEN, addresses=("10.0.0.5", "192.168.7.5")), 0.0)
    effects = one.tick(ATTEMPT_SECONDS)
    assert Disconnect in kinds(effects)
    assert node(one).reason == "does not answer at 10.0.0.5:7420"
    effects = one.tick(ATTEMPT_SECONDS + 1.0)
    assert [effect.host for effect in effects if isinstance(effect, Connect)] == ["192.168.7.5"]
    assert node(one).state is NodeState.DISCOVERED


def test_another_key_at_the_address_is_said_in_words() -> None:
    one = roster()
    one.sighted(SEEN, 0.0)
    one.not_itself(ID)
    one.tick(ATTEMPT_SECONDS)
    assert "not this node" in node(one).reason


def test_refused_without_a_key_file_stays_discovered_and_says_how_to_pair() -> None:
    one = roster()
    one.sighted(SEEN, 0.0)
    effects = one.refused(ID, 0.1)
    assert kinds(effects) == [Disconnect, Tell]
    assert node(one).state is NodeState.DISCOVERED
    assert "shardboard pair 10.0.0.5:7420 CODE)" in node(one).reason
    assert Connect in kinds(one.tick(5.2))  # it may have been paired meanwhile


def test_an_unusual_pairing_port_is_part_of_the_advice() -> None:
    one = roster()
    one.sighted(replace(SEEN, pairing_port=9999), 0.0)
    one.refused(ID, 0.1)
    assert "--pairing-port 9999" in node(one).reason


def test_refused_with_a_key_file_is_paired_once() -> None:
    one = roster(key_file=True)
    one.sighted(SEEN, 0.0)
    assert PairWithKeyFile(ID, "10.0.0.5", 7421) in one.refused(ID, 0.1)
    assert kinds(one.paired(ID, 0.2)) == [Connect]
    effects = one.refused(ID, 0.3)
    assert PairWithKeyFile not in kinds(effects)
    assert "pair it" in node(one).reason


def test_a_local_agent_is_paired_before_it_is_greeted() -> None:
    one = roster(key_file=True)
    effects = one.sighted(replace(SEEN, source="local"), 0.0)
    assert kinds(effects) == [Tell, PairWithKeyFile]
    assert kinds(one.paired(ID, 0.1)) == [Connect]


@pytest.mark.parametrize("by", ["announcement", "failure", "welcome"])
def test_another_protocol_version_is_incompatible_with_the_reason(by: str) -> None:
    one = roster()
    one.sighted(replace(SEEN, protocol=PROTOCOL_VERSION + 1) if by == "announcement" else SEEN, 0.0)
    if by == "failure":
        one.greeting_failed(ID, Failure("version", "this node speaks protocol 9"), 0.1)
    if by == "welcome":
        one.welcomed(ID, Welcome(PROTOCOL_VERSION + 1, INFO), 0.1)
    assert node(one).state is NodeState.INCOMPATIBLE
    assert "protocol" in node(one).reason
    assert "install the same version" in node(one).reason


def test_a_node_that_says_it_is_another_is_not_believed() -> None:
    one = roster()
    one.sighted(SEEN, 0.0)
    one.welcomed(ID, Welcome(PROTOCOL_VERSION, replace(INFO, id=NodeId("b" * 40))), 0.1)
    assert node(one).state is NodeState.DISCOVERED
    assert node(one).info is None


def test_a_drained_node_stays_drained_when_it_comes_back() -> None:
    one = ready(roster())
    one.drain(ID)
    one.telemetry(ID, telemetry(), 0.5)
    assert node(one).state is NodeState.DRAINED
    one.tick(4.0)
    assert node(one).state is NodeState.LOST
    one.welcomed(ID, WELCOME, 5.0)
    assert node(one).state is NodeState.DRAINED
    one.resume(ID)
    one.telemetry(ID, telemetry(), 5.5)
    assert node(one).state is NodeState.READY


def test_a_withdrawn_announcement_removes_only_a_node_that_never_talked() -> None:
    one = roster()
    one.sighted(SEEN, 0.0)
    assert one.vanished(ID)[-1] == Tell(NodeRemoved(ID))
    assert one.nodes() == ()
    assert ready(one).vanished(ID) == []
    assert node(one).state is NodeState.READY


def test_a_node_of_earlier_days_is_shown_only_when_it_answers() -> None:
    one = roster()
    effects = one.sighted(replace(SEEN, source="address"), 0.0, visible=False)
    assert kinds(effects) == [Connect]
    one.tick(ATTEMPT_SECONDS)
    assert one.nodes() == ()
    effects = one.welcomed(ID, WELCOME, 4.0)
    assert any(isinstance(e, Tell) and isinstance(e.event, NodeChanged) for e in effects)
    assert len(one.nodes()) == 1


def test_a_node_that_answers_but_sends_no_telemetry_is_asked_again() -> None:
    one = ready(roster())
    asked = []
    for tenth in range(1, 60):
        one.heard(ID, tenth / 10)
        asked += [e for e in one.tick(tenth / 10) if isinstance(e, Say) and isinstance(e.body, Subscribe)]
    assert len(asked) == 2
