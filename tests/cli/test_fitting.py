"""Plans that a node lacks the memory for, or that answer too late: real agents, one of them with a memory limit."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from core.cli import main
from core.cluster.local import LocalAgents, start_local_agents
from core.cluster.opening import open_cluster
from tests.cli.test_commands import MODEL, run, run_json

LIMIT = 40 << 20
"""Bytes; the runtime alone takes more."""


class Pair(NamedTuple):
    roomy: LocalAgents
    small: LocalAgents
    state: Path
    """Of the small one."""
    both: tuple[str, ...]


@pytest.fixture(scope="module")
def pair(command_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    state = tmp_path_factory.mktemp("small")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHARDBOARD_HOME", str(command_home))
        with (
            start_local_agents(1, names=("roomy",)) as roomy,
            start_local_agents(1, names=("small",), memory_limit=LIMIT, state_root=state) as small,
        ):
            agents = (*roomy.agents, *small.agents)
            with open_cluster(local=agents, discovery=False) as cluster:
                cluster.wait_ready(2, 60)
                for agent in agents:
                    reached = cluster.add_address(agent.host, agent.control_port, pairing_port=agent.pairing_port)
                    assert reached.result(60) == agent.id
            places = tuple(part for one in agents for part in ("--node", f"{one.host}:{one.control_port}"))
            yield Pair(roomy, small, state, places)


def test_a_plan_that_does_not_fit_is_shown_with_what_is_missed_and_what_would_fit(
    capsys: pytest.CaptureFixture[str], pair: Pair
) -> None:
    code, out, err = run(capsys, "plan", MODEL, *pair.both, "--strategy", "replicate", "--json")
    assert code == 3
    told = json.loads(out)
    (missed,) = told["missed"]
    assert missed.startswith("small would need ")
    assert missed.endswith(" more than its limit of 40.0 MiB.")
    assert f"cannot be placed: {missed}" in err
    assert told["nearest"].startswith("Nearest to it: ")
    assert "roomy" in told["nearest"]
    assert told["nearest"] in err
    assert [change["nodes"] for change in told["changes"]] == [["roomy"]]
    assert "fits, with " in told["changes"][0]["words"]


def test_a_run_that_does_not_fit_is_refused_before_anything_is_sent(
    capsys: pytest.CaptureFixture[str], pair: Pair
) -> None:
    argv = ("run", MODEL, *pair.both, "--strategy", "replicate", "--input", "random:40", "--json")
    code, out, err = run(capsys, *argv)
    assert (code, out) == (3, "")
    assert "Sending" not in err
    assert "error: Nothing was sent: small would need " in err
    assert "Nearest to it: " in err
    code, out, err = run(capsys, *argv, "--anyway")
    assert (code, out) == (3, ""), "the node itself knows better than a person who insists"
    assert "Sending" in err
    assert "this node may use 40.0 MiB" in err
    assert not [path for path in pair.state.rglob("*") if len(path.name) == 64], "no blob came"
    code, out, err = run(capsys, *argv[:6], "--input", "random:40", "--json")
    assert code == 0, err
    assert [node["name"] for node in json.loads(out)["nodes"]] == ["roomy"]


def test_an_answer_that_comes_too_late_is_refused(capsys: pytest.CaptureFixture[str], pair: Pair) -> None:
    bound = ("--latency-bound", "0.001")
    code, _, err = run(capsys, "plan", MODEL, *pair.both, "--strategy", "single", *bound)
    assert code == 3
    assert "cannot be placed: It answers in " in err
    assert "No plan answers within 0.001 ms: the quickest, " in err
    asked = (*pair.both[:2], "--input", "random:40", *bound)
    code, out, err = run(capsys, "run", MODEL, *asked, "--strategy", "single")
    assert (code, out) == (3, "")
    assert "Sending" not in err
    code, out, err = run(capsys, "run", MODEL, *asked)
    assert (code, out) == (3, "")
    assert "error: No plan answers within 0.001 ms: the quickest, single on roomy, takes " in err
    code, out, err = run(capsys, "run", MODEL, *asked, "--strategy", "single", "--anyway")
    assert code == 0, err
    assert "note: It answers in " in err


def test_a_bound_that_smaller_micro_batches_keep_is_kept_by_them(
    capsys: pytest.CaptureFixture[str], pair: Pair
) -> None:
    roomy = pair.both[:2]
    one, eight = (
        run_json(capsys, "plan", MODEL, *roomy, "--batch", str(size))["predicted"]["latency_ms"] for size in (1, 8)
    )
    assert one < eight
    told = run_json(capsys, "plan", MODEL, *roomy, "--latency-bound", f"{(one + eight) / 2:.6f}")
    assert 1 <= told["micro_batch"] < 8
    assert told["predicted"]["latency_ms"] <= (one + eight) / 2
    assert f"Micro-batches of {told['micro_batch']}, as no plan with larger ones" in told["why"]


def test_a_comparison_tells_what_does_not_fit(capsys: pytest.CaptureFixture[str], pair: Pair) -> None:
    strategies = ("--strategy", "single @ roomy", "--strategy", "replicate")
    code, out, err = run(capsys, "bench", MODEL, *pair.both, *strategies, "--seconds", "0.1", "--json")
    assert code == 0, err
    told = json.loads(out)
    assert [row["strategy"] for row in told["results"]] == ["single @ roomy"]
    (refused,) = told["refused"]
    assert refused["strategy"] == "replicate"
    assert refused["why"].startswith("small would need ")
    assert told["ended"] == ""


class Killing(io.StringIO):
    """Standard error; once something is told there, an agent is killed."""

    def __init__(self, told: str, kill: Callable[[], None]) -> None:
        super().__init__()
        self._told, self._kill = told, kill

    def write(self, text: str) -> int:
        if self._told in text:
            self._kill()
        return super().write(text)


def test_a_comparison_that_loses_a_node_keeps_what_was_measured(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, pair: Pair
) -> None:
    with start_local_agents(1, names=("victim",)) as victim:
        one = victim.agents[0]
        with open_cluster(local=victim.agents, discovery=False) as cluster:
            reached = cluster.add_address(one.host, one.control_port, pairing_port=one.pairing_port)
            assert reached.result(60) == one.id
        told = Killing("Running pipeline", lambda: victim.kill(0))
        monkeypatch.setattr("sys.stderr", told)
        places = (*pair.both[:2], "--node", f"{one.host}:{one.control_port}")
        asked = ("--strategy", "single @ roomy", "--strategy", "pipeline", "--seconds", "0.1", "--json")
        code = main(["bench", MODEL, *places, *asked])
    assert code in {3, 4}, told.getvalue()  # the loss is noticed before it is deployed, or while it runs
    report = json.loads(capsys.readouterr().out)
    assert [row["strategy"] for row in report["results"]] == ["single @ roomy"]
    assert "victim" in report["ended"]
    assert f"error: {report['ended']}" in told.getvalue()
