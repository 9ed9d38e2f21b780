"""Links are measured by those who were introduced for it, in bounds, and by nobody else."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.failures import AgentFailureError
from agent.probes import LONGEST, Probes
from core.cost.speed import memory_kernel
from core.plan.form import NodeId
from core.wire.frames import encode_header
from core.wire.messages import (
    CloseProbe,
    DataHeader,
    Done,
    Failure,
    LinkProbed,
    Measure,
    Measured,
    OpenProbe,
    Probe,
    ProbeAck,
    ProbeLink,
    ShardFailed,
)
from core.wire.probing import LARGEST
from core.wire.trust import TrustStore
from tests.agent.driver import AgentProcess, Data, Workstation, reserve

DESK, PEER, STRANGER = "d" * 40, "p" * 40, "s" * 40
KERNEL = memory_kernel(1 << 16)
Start = Callable[..., AgentProcess]
NewStation = Callable[..., Workstation]


@pytest.fixture
def trust(tmp_path: Path) -> TrustStore:
    return TrustStore(tmp_path / "trusted.json")


@pytest.fixture
def probes(trust: TrustStore) -> Probes:
    opened = Probes(trust)
    opened.open(OpenProbe("p", (NodeId(PEER),), 60.0), DESK, 0.0)
    return opened


def refused(code: str, words: str, action: Callable[[], object]) -> None:
    with pytest.raises(AgentFailureError, match=words) as caught:
        action()
    assert caught.value.code == code


# ------------------------------------------------------------ the rules


def test_peers_are_let_in_for_as_long_as_the_probe_is_open(trust: TrustStore, probes: Probes) -> None:
    assert trust.allows(PEER)
    assert not trust.allows(STRANGER)
    probes.close("p", STRANGER)  # not theirs
    assert trust.allows(PEER)
    assert probes.next_expiry == 60.0
    probes.expire(59.9)
    assert probes.is_open("p")
    probes.expire(60.0)
    assert not probes.is_open("p")
    assert not trust.allows(PEER)
    assert probes.next_expiry is None


def test_whoever_takes_the_node_ends_the_probes_of_others(trust: TrustStore, probes: Probes) -> None:
    probes.close_others(DESK)
    assert probes.is_open("p")
    probes.close_others(STRANGER)
    assert not trust.allows(PEER)


@pytest.mark.parametrize(
    ("message", "user", "code", "words"),
    [
        (OpenProbe("", (), 1.0), DESK, "field", "Field probe has 0 characters"),
        (OpenProbe("x" * 65, (), 1.0), DESK, "field", "Field probe has 65 characters"),
        (OpenProbe("q", (NodeId("no key"),), 1.0), DESK, "field", "no node's key"),
        (OpenProbe("q", (NodeId(PEER),) * 257, 1.0), DESK, "field", "257 nodes; at most 256"),
        (OpenProbe("q", (), 0.0), DESK, "field", "Field seconds is 0.0"),
        (OpenProbe("q", (), math.nan), DESK, "field", "Field seconds is nan"),
        (OpenProbe("q", (), LONGEST + 1), DESK, "field", "Field seconds is 601"),
        (OpenProbe("p", (), 1.0), STRANGER, "field", "another workstation's probe"),
    ],
)
def test_what_cannot_be_opened_is_refused(probes: Probes, message: OpenProbe, user: str, code: str, words: str) -> None:
    refused(code, words, lambda: probes.open(message, user, 0.0))
    assert probes.is_open("p")


def test_there_are_not_ever_more_probes(probes: Probes) -> None:
    for number in range(7):
        probes.open(OpenProbe(f"more {number}", (), 1.0), DESK, 0.0)
    refused("busy", "Too many", lambda: probes.open(OpenProbe("q", (), 1.0), DESK, 0.0))
    probes.open(OpenProbe("p", (), 1.0), DESK, 0.0)  # its own again


PLACE = "tcp://127.0.0.1:7422"


@pytest.mark.parametrize(
    ("message", "user", "words"),
    [
        (ProbeLink("p", NodeId(PEER), PLACE, (1024,), 1.0), STRANGER, "none that is open here"),
        (ProbeLink("other", NodeId(PEER), PLACE, (1024,), 1.0), DESK, "none that is open here"),
        (ProbeLink("p", NodeId(STRANGER), PLACE, (1024,), 1.0), DESK, "was not introduced"),
        (ProbeLink("p", NodeId(PEER), "ipc://tmp/x", (1024,), 1.0), DESK, "Field endpoint"),
        (ProbeLink("p", NodeId(PEER), "tcp://host:99999", (1024,), 1.0), DESK, "Field endpoint"),
        (ProbeLink("p", NodeId(PEER), PLACE, (), 1.0), DESK, "Field sizes has 0"),
        (ProbeLink("p", NodeId(PEER), PLACE, (1,) * 17, 1.0), DESK, "Field sizes has 17"),
        (ProbeLink("p", NodeId(PEER), PLACE, (0,), 1.0), DESK, "Field sizes holds"),
        (ProbeLink("p", NodeId(PEER), PLACE, (1024, LARGEST + 1), 1.0), DESK, "Field sizes holds"),
        (ProbeLink("p", NodeId(PEER), PLACE, (1024,), 0.0), DESK, "Field seconds"),
        (ProbeLink("p", NodeId(PEER), PLACE, (1024,), 11.0), DESK, "Field seconds"),
        (ProbeLink("p", NodeId(PEER), PLACE, (1024,), math.inf), DESK, "Field seconds"),
    ],
)
def test_what_is_not_measured_is_refused(probes: Probes, message: ProbeLink, user: str, words: str) -> None:
    refused("field", words, lambda: probes.check(message, user))


SMALL, TOO_LARGE = memoryview(bytes(8)), memoryview(bytes(LARGEST + 1))


@pytest.mark.parametrize(
    ("header", "user", "frames", "words"),
    [
        (Probe("p", 1), STRANGER, (SMALL, SMALL), "none that is open here for you"),
        (Probe("other", 1), DESK, (SMALL, SMALL), "none that is open here for you"),
        (Probe("p", 1), DESK, (SMALL,), "2 frames, 1 came"),
        (Probe("p", 1), PEER, (SMALL, SMALL, SMALL), "2 frames, 3 came"),
        (Probe("p", 1), PEER, (SMALL, TOO_LARGE), f"{LARGEST} bytes at most"),
        (Probe("p", 1, 1), PEER, (SMALL, SMALL), "only the workstation that opened the probe"),
        (Probe("p", 1, LARGEST + 1), DESK, (SMALL, SMALL), "Field answer"),
        (Probe("p", 1, -1), DESK, (SMALL, SMALL), "Field answer"),
    ],
)
def test_what_is_not_acknowledged(
    probes: Probes, header: Probe, user: str, frames: tuple[memoryview, ...], words: str
) -> None:
    assert words in (probes.refusal(header, user, frames) or "")


def test_what_is_acknowledged(probes: Probes) -> None:
    assert probes.refusal(Probe("p", 1), PEER, (SMALL, SMALL)) is None
    assert probes.refusal(Probe("p", 1, LARGEST), DESK, (SMALL, SMALL)) is None


# ------------------------------------------------------------ real agents


def ask(data: Data, header: Probe, *frames: bytes) -> tuple[DataHeader, int]:
    """What comes back, and the bytes behind it."""
    data.channel.send([encode_header(header), *frames])
    answer, rest = data.receive()
    return answer, sum(frame.nbytes for frame in rest)


def test_an_agent_acknowledges_and_bounds_what_it_sends(start: Start, new_station: NewStation) -> None:
    agent = start()
    desk, lab = new_station(agent), new_station(agent, name="lab")
    control, data, foreign = desk.control(agent), desk.data(agent), lab.data(agent)
    control.hello()
    assert isinstance(ask(data, Probe("p", 1), b"")[0], ShardFailed)  # nothing is open yet
    assert control.ask(OpenProbe("p", (agent.id,), 30.0)) == Done()
    assert ask(data, Probe("p", 2), bytes(1000)) == (ProbeAck("p", 2), 0)
    assert ask(data, Probe("p", 3, LARGEST), b"") == (ProbeAck("p", 3), LARGEST)
    for header, frames in (
        (Probe("p", 4, LARGEST + 1), (b"",)),
        (Probe("p", 5), ()),
        (Probe("p", 6), (bytes(LARGEST + 1),)),
    ):
        answer, nbytes = ask(data, header, *frames)
        assert isinstance(answer, ShardFailed)
        assert nbytes == 0
    answer, _ = ask(foreign, Probe("p", 7), b"")  # paired, but this probe is not its own
    assert isinstance(answer, ShardFailed)
    assert control.ask(CloseProbe("p")) == Done()
    answer, _ = ask(data, Probe("p", 8), b"")
    assert isinstance(answer, ShardFailed)


def test_a_node_measures_its_way_to_itself_and_stops_when_it_is_told(start: Start, new_station: NewStation) -> None:
    agent = start()
    control = new_station(agent).control(agent)
    control.hello()
    link = ProbeLink("p", agent.id, agent.data_endpoint, (1024, 1 << 20), 5.0)
    refusal = control.ask(link)
    assert isinstance(refusal, Failure)
    assert refusal.code == "field"
    assert control.ask(OpenProbe("p", (agent.id,), 30.0)) == Done()
    probed = control.ask(link)
    assert isinstance(probed, LinkProbed)
    assert [sample.nbytes for sample in probed.samples] == [1024, 1 << 20]
    assert all(sample.bytes_per_s > 0 for sample in probed.samples)
    assert 0 < probed.round_trip_s < 1
    # where nobody listens the measurement ends by itself, and before that when the probe is closed
    nowhere = ProbeLink("p", agent.id, "tcp://127.0.0.1:9", (1024,), 10.0)
    number = control.begin(nowhere)
    control.begin(CloseProbe("p"))
    answers = dict(control.receive() for _ in range(2))
    stopped = answers[number]
    assert isinstance(stopped, Failure)
    assert stopped.code == "busy", "not that nobody was found"


def test_a_kernel_is_measured_with_the_threads_asked_for(start: Start, new_station: NewStation) -> None:
    agent = start("--threads", "2")
    control = new_station(agent).control(agent)
    control.hello()
    for threads in (0, 1, 2):
        measured = control.ask(Measure(KERNEL.graph, KERNEL.inputs, 1000, threads, 0.01))
        assert isinstance(measured, Measured)
        assert 0 < measured.quiet_seconds < 60
        assert measured.free_memory > 0
    for threads, seconds, words in ((3, 0.0, "computes with 2"), (-1, 0.0, "Field threads"), (1, 1e9, "seconds is")):
        refusal = control.ask(Measure(KERNEL.graph, KERNEL.inputs, 1, threads, seconds))
        assert isinstance(refusal, Failure)
        assert refusal.code == "field"
        assert words in refusal.message


def test_a_node_that_another_workstation_holds_is_not_measured(start: Start, new_station: NewStation) -> None:
    agent = start()
    desk, lab = new_station(agent), new_station(agent, name="lab")
    ours, theirs = desk.control(agent), lab.control(agent)
    ours.hello()
    theirs.hello()
    assert ours.ask(OpenProbe("p", (agent.id,), 30.0)) == Done()
    assert reserve(theirs, "d") == Done()
    data = desk.data(agent)
    answer, _ = ask(data, Probe("p", 1), b"")  # ended by the reservation
    assert isinstance(answer, ShardFailed)
    for body in (
        OpenProbe("p", (agent.id,), 30.0),
        ProbeLink("p", agent.id, agent.data_endpoint, (1024,), 1.0),
        Measure(KERNEL.graph, KERNEL.inputs, 1),
    ):
        refusal = ours.ask(body)
        assert isinstance(refusal, Failure)
        assert refusal.code == "owned"
        assert "in use by desk" in refusal.message  # what the driver's reservations are called
    assert theirs.ask(OpenProbe("q", (agent.id,), 30.0)) == Done()
