"""Plan files are edited by hand and carried from one laboratory to another: the command line with good and bad ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from core.cluster.local import start_local_agents
from core.cluster.measured import MEASUREMENTS_FILE
from core.cluster.opening import open_cluster
from core.model.library import open_entry
from core.paths import data_dir
from resources import resource_path
from tests.cli.test_commands import MODEL, run, run_json

Edit = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def places(command_home: Path) -> Iterator[tuple[str, ...]]:
    """Addresses of three agents that know this workstation: pi-1, pi-2, pi-3."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHARDBOARD_HOME", str(command_home))
        with start_local_agents(3, names=("pi-1", "pi-2", "pi-3")) as started:
            with open_cluster(local=started.agents, discovery=False) as cluster:
                cluster.wait_ready(3, 30)
                for agent in started.agents:
                    reached = cluster.add_address(agent.host, agent.control_port, pairing_port=agent.pairing_port)
                    assert reached.result(30) == agent.id
            yield tuple(f"{agent.host}:{agent.control_port}" for agent in started.agents)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("plans")


@pytest.fixture
def saved(places: tuple[str, ...], folder: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A pipeline over pi-1 and pi-2, made once."""
    path = folder / "saved.json"
    if not path.exists():
        asked = ("--strategy", "pipeline", *on(places[:2]), "--batch", "4")
        code, _, err = run(capsys, "plan", MODEL, *asked, "--save", str(path))
        assert code == 0, err
    return path


def on(places: Sequence[str]) -> list[str]:
    return [part for place in places for part in ("--node", place)]


def edited(saved: Path, folder: Path, edit: Edit) -> str:
    value = json.loads(saved.read_bytes())
    edit(value)
    path = folder / "edited.json"
    path.write_text(json.dumps(value, indent=2), encoding="utf-8")
    return str(path)


def test_a_saved_plan_tells_its_reader_what_it_is(saved: Path) -> None:
    value = json.loads(saved.read_bytes())
    layers = open_entry(MODEL).layers(4)
    assert (value["format"], value["model"]["name"], value["strategy"]) == (2, MODEL, "pipeline")
    assert value["written_by"].startswith("Shardboard ")
    assert [node["name"] for node in value["nodes"]] == ["pi-1", "pi-2"]
    (cut,) = value["cuts"]
    assert cut["layer"] == layers[cut["position"]].name
    assert value["predicted"]["throughput"] > 0
    assert set(value["predicted"]["memory_bytes"]) == {"pi-1", "pi-2"}


def test_a_plan_is_predicted_and_saved_again(
    capsys: pytest.CaptureFixture[str], saved: Path, places: Sequence[str], tmp_path: Path
) -> None:
    again = tmp_path / "again.json"
    told = run_json(capsys, "plan", MODEL, "--plan", str(saved), *on(places), "--save", str(again))
    assert told["nodes"] == ["pi-1", "pi-2"]
    first, second = (json.loads(path.read_bytes()) for path in (saved, again))
    assert told["strategy"] == "pipeline"
    assert told["micro_batch"] == 4
    assert told["cut_layers"] == [first["cuts"][0]["layer"]]
    for key in ("model", "strategy", "micro_batch", "cuts"):
        assert first[key] == second[key]


def test_a_plan_that_was_edited_by_hand_runs(
    capsys: pytest.CaptureFixture[str], saved: Path, places: Sequence[str], tmp_path: Path
) -> None:
    def edit(value: dict[str, Any]) -> None:
        value["comment"] = "the second convolution on the second node"
        value["cuts"] = [{"layer": "conv2"}]
        value["nodes"] = [{"name": "pi-3"}, {"name": "pi-1"}]

    path = edited(saved, tmp_path, edit)
    report = run_json(capsys, "run", MODEL, "--plan", path, *on(places), "--input", "random:12", "--verify")
    assert report["request"]["cuts"] == [2]
    assert [one["name"] for one in report["nodes"]] == ["pi-3", "pi-1"]
    assert report["verified"] is True


def test_pictures_run_through_a_plan_that_was_saved_without_processing(
    capsys: pytest.CaptureFixture[str], saved: Path, places: Sequence[str], tmp_path: Path
) -> None:
    code, _, err = run(
        capsys,
        *("run", MODEL, "--plan", str(saved), *on(places[:2]), "--input", str(resource_path("samples", "digits"))),
        *("--output", str(tmp_path / "classes.csv"), "--verify"),
    )
    assert code == 0, err
    assert "its layers were found by their names" in err


def set_to(*path: str | int, to: Any) -> Edit:
    def edit(value: Any) -> None:
        for key in path[:-1]:
            value = value[key]
        value[path[-1]] = to

    return edit


@pytest.mark.parametrize(
    ("edit", "code", "words"),
    [
        (set_to("micro_batch", to="eight"), 2, '"micro_batch" is "eight", but should be a whole number'),
        (set_to("micro_bath", to=8), 2, 'A plan has no "micro_bath"'),
        (set_to("format", to=9), 2, "This plan has format 9, written by Shardboard"),
        (set_to("cuts", 0, "position", to=40), 2, "cuts[0] is at 40, but digits-cnn has 12 layers. Its cuts lie at 1"),
        (set_to("cuts", 0, "position", to=1), 2, "cuts[0] is at 1, where relu1 begins, but names"),
        (set_to("cuts", 0, to={"layer": "conv9"}), 2, "but digits-cnn has no such layer. Did you mean conv"),
        (set_to("cuts", to=[]), 2, "2 stages have 1 cut between them, not 0"),
        (set_to("strategy", to="pipelin"), 2, "There is no strategy 'pipelin'"),
        (set_to("nodes", 1, "share_percent", to=50), 2, "pipeline has no group of nodes that share layers out"),
        (set_to("model", "sha256", to="0" * 64), 2, "It has as many layers and parameters, so its weights"),
        (set_to("nodes", 0, "id", to="short"), 2, "A node's id has 40 characters; this has 5"),
        (set_to("nodes", to=[]), 2, "The plan has no nodes"),
        (set_to("nodes", to=[{"name": f"n{i}"} for i in range(1001)]), 2, "1,000 nodes at most, not 1,001"),
        (set_to("micro_batch", to=10**400), 2, '"micro_batch" is a number of 401 digits, but should be a whole number'),
    ],
)
def test_a_wrong_edit_is_told_before_any_agent_starts(
    capsys: pytest.CaptureFixture[str], saved: Path, tmp_path: Path, edit: Edit, code: int, words: str
) -> None:
    path = edited(saved, tmp_path, edit)
    found, _, err = run(capsys, "plan", MODEL, "--plan", path, "--local", "2")
    assert found == code
    assert words in err
    assert path in err
    assert "Starting" not in err


def test_a_plan_for_another_model_says_which_and_what_differs(capsys: pytest.CaptureFixture[str], saved: Path) -> None:
    code, _, err = run(capsys, "run", "digits-mlp", "--plan", str(saved), "--local", "2", "--input", "random:4")
    assert code == 2
    assert "is a plan for another model: digits-cnn (hash cad58b1a1a00, 12 layers, 40,394 parameters)" in err
    assert "not digits-mlp (hash 06a256c9f6a9, 6 layers, 17,226 parameters)" in err
    assert "Give digits-cnn instead of digits-mlp" in err


def test_a_plan_on_other_nodes(
    capsys: pytest.CaptureFixture[str], saved: Path, places: Sequence[str], tmp_path: Path
) -> None:
    code, _, err = run(capsys, "plan", MODEL, "--plan", str(saved), *on(places[1:2]))
    assert code == 3
    assert "is for 2 nodes; 1 is here: pi-1 (id " in err
    assert "is missing. Start what is missing" in err

    def renewed(value: dict[str, Any]) -> None:
        value["nodes"][0]["id"] = "k" * 40

    code, _, err = run(capsys, "plan", MODEL, "--plan", edited(saved, tmp_path, renewed), *on(places[:2]))
    assert code == 0
    assert "warning: pi-1 has a new key since the plan was saved and was found by name. Save the plan again" in err

    def elsewhere(value: dict[str, Any]) -> None:
        value["nodes"] = [{"name": "lab-1"}, {"name": "lab-2"}]

    path = edited(saved, tmp_path, elsewhere)
    code, _, err = run(capsys, "plan", MODEL, "--plan", path, *on(places[:2]))
    assert code == 0
    assert "warning: The plan's lab-1 and lab-2 are not here; pi-1 does what lab-1 was to do, pi-2 does what" in err
    code, _, err = run(capsys, "plan", MODEL, "--plan", path, *on(places))
    assert code == 3
    assert "3 others could stand in for them: pi-1, pi-2 and pi-3. Say which" in err


def test_what_no_plan_can_keep_is_told_with_names_before_anything_is_measured(
    capsys: pytest.CaptureFixture[str], saved: Path, places: Sequence[str], tmp_path: Path
) -> None:
    def crossed(value: dict[str, Any]) -> None:
        del value["cuts"]
        value["pins"] = [{"position": 2, "node": "pi-2"}, {"position": 8, "node": "pi-1"}]

    code, _, err = run(capsys, "plan", MODEL, "--plan", edited(saved, tmp_path, crossed), *on(places[:2]))
    assert code == 2
    assert "is pinned to pi-2 and Layer 9 (" in err
    assert "to pi-1, which comes earlier in the pipeline" in err
    assert "Measuring" not in err


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "The text ends too early"),
        (b"\x89PNG\r\n", "byte 0 is no text"),
        (b"{}", "is no plan: it holds an object that does not speak of a model and a strategy"),
        (b'{"format": 2,\n "model": {"name": "x" "sha256": ""}}', "line 2: A ',' is missing here, or a '}'"),
    ],
)
def test_what_is_no_plan_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, data: bytes, words: str
) -> None:
    path = tmp_path / "plan.json"
    path.write_bytes(data)
    code, _, err = run(capsys, "plan", MODEL, "--plan", str(path), "--local", "2")
    assert code == 2
    assert words in err
    assert str(path) in err


def test_what_is_far_too_large_for_a_plan_is_not_read(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    with path.open("wb") as file:
        file.truncate(100 << 20)
    code, _, err = run(capsys, "plan", MODEL, "--plan", str(path), "--local", "2")
    assert code == 2
    assert f"{path} is no plan: it has 100 MiB, and a plan has a few KiB." in err


def test_nodes_and_links_that_are_not_what_they_were(
    capsys: pytest.CaptureFixture[str], saved: Path, places: Sequence[str], tmp_path: Path
) -> None:
    def faster(value: dict[str, Any]) -> None:
        value["predicted"]["throughput"] *= 3

    code, _, err = run(capsys, "plan", MODEL, "--plan", edited(saved, tmp_path, faster), *on(places[:2]))
    assert code == 0
    assert "warning: When the plan was saved " in err
    assert "To measure again: shardboard nodes --measure" in err


def test_a_node_that_became_slower_and_lost_memory_since_it_was_measured(
    capsys: pytest.CaptureFixture[str], saved: Path, places: Sequence[str]
) -> None:
    path = data_dir() / MEASUREMENTS_FILE
    before = path.read_bytes()
    told = json.loads(before)
    one = told["benchmarks"][json.loads(saved.read_bytes())["nodes"][0]["id"]]
    one["gemm_core_flops"] *= 100
    one["free_memory"] += 1 << 40
    path.write_text(json.dumps(told), encoding="utf-8")
    try:
        code, _, err = run(capsys, "plan", MODEL, "--plan", str(saved), *on(places[:2]))
    finally:
        path.write_bytes(before)
    assert code == 0
    assert "warning: pi-1 became slower: it computes at " in err
    assert "warning: pi-1 lost memory: " in err
    assert "measured. To measure again: shardboard nodes --measure\n" in err


def test_a_plan_that_is_not_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path):
        code, _, err = run(capsys, "plan", MODEL, "--plan", str(path), "--local", "2")
        assert code == 2
        assert f"The plan {path} cannot be read: " in err


def test_what_does_not_go_with_a_saved_plan(capsys: pytest.CaptureFixture[str], saved: Path) -> None:
    code, _, err = run(capsys, "plan", MODEL, "--plan", str(saved), "--strategy", "single", "--local", "2")
    assert code == 2
    assert "not allowed with" in err
    code, _, err = run(capsys, "plan", MODEL, "--plan", str(saved), "--shares", "50,50", "--local", "2")
    assert code == 2
    assert "a saved plan says that itself" in err


@pytest.mark.parametrize("text", ["x", "0", "-5", "nan", "inf", "1e9"])
def test_a_latency_bound_is_a_number_of_milliseconds(capsys: pytest.CaptureFixture[str], text: str) -> None:
    code, _, err = run(capsys, "plan", MODEL, f"--latency-bound={text}", "--local", "2")
    assert code == 2
    assert f'"{text}" is not a number of milliseconds; it goes up to 3600000' in err
