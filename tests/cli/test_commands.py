"""The commands as scripts use them: exit codes, the JSON on stdout, nothing left behind."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import psutil
import pytest

from core.cli import main
from core.cluster.local import start_local_agents
from core.cluster.opening import open_cluster
from core.model.library import resolve_model
from core.run.history import list_runs
from resources import resource_path
from tests.cluster.peers import as_address, mlp

MODEL = "digits-cnn"


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    """In this process: exit code, stdout, stderr."""
    try:
        code = main(argv)
    except SystemExit as left:
        code = int(left.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def run_json(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, Any]:
    code, out, err = run(capsys, *argv, "--json")
    assert code == 0, err
    value: dict[str, Any] = json.loads(out)
    return value


def feed_file(folder: Path, items: int) -> tuple[Path, list[np.ndarray]]:
    """Inputs for MODEL as .npz, and what onnxruntime makes of them."""
    model, entry = resolve_model(MODEL)
    assert entry is not None
    assert entry.path is not None
    feed = model.random_feed(items, seed=3)
    path = folder / "inputs.npz"
    np.savez(path, **feed)
    session = ort.InferenceSession(entry.path, providers=["CPUExecutionProvider"])
    return path, session.run(None, dict(feed))


@pytest.mark.parametrize("strategy", ["single", "replicate", "pipeline", "tensor", "spatial"])
def test_run_gives_what_onnxruntime_gives(capsys: pytest.CaptureFixture[str], tmp_path: Path, strategy: str) -> None:
    inputs, expected = feed_file(tmp_path, 53)
    outputs = tmp_path / "outputs.npz"
    report = run_json(
        capsys,
        *("run", MODEL, "--local", "2", "--strategy", strategy, "--input", str(inputs), "--output", str(outputs)),
        *("--verify", "--batch", "4"),
    )
    with np.load(outputs) as found:
        np.testing.assert_allclose(found[found.files[0]], expected[0], rtol=1e-4, atol=1e-5)
    assert (report["model"], report["strategy"], report["items"]) == (MODEL, strategy, 53)
    assert report["verified"] is True
    assert report["max_abs_error"] < 1e-3
    assert report["throughput"] > 0
    assert report["seconds"] > 0
    assert set(report["latency_ms"]) == {"p50", "p95", "p99"}
    assert {"name", "items", "busy", "cpu", "sent_bytes", "received_bytes"} <= set(report["nodes"][0])
    assert set(report["predicted"]) == {"throughput", "latency_ms", "loaded_latency_ms", "in_flight", "memory_bytes"}
    assert report["predicted"]["in_flight"] == report["in_flight"]
    assert report["predicted"]["loaded_latency_ms"] > report["predicted"]["latency_ms"] * 0.9
    assert report["efficiency"] > 0
    assert len(report["nodes"]) == (1 if strategy == "single" else 2)
    assert list_runs()[0].model == MODEL


def test_results_go_to_stdout_and_progress_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "run", MODEL, "--local", "1", "--input", "random:20")
    assert code == 0
    assert out.startswith(f"{MODEL}: single on local-1")
    assert "throughput" in out
    assert "Running ..." in err
    assert "Running" not in out


def test_a_folder_of_pictures_becomes_the_best_classes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = resource_path("samples", "digits")
    output = tmp_path / "classes.csv"
    code, _, err = run(capsys, "run", MODEL, "--local", "2", "--input", str(folder), "--output", str(output))
    assert code == 0, err
    with output.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    right = sum(row["name"].split("label")[1][0] == row["class1"] for row in rows)
    assert len(rows) > 20
    assert right >= 0.9 * len(rows)


def test_throw_away_nodes_keep_their_names_and_say_nothing_of_their_keys(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    plan = tmp_path / "plan.json"
    made = run_json(capsys, "plan", MODEL, "--strategy", "pipeline", "--local", "2", "--save", str(plan))
    assert made["strategy"] == "pipeline"
    assert len(made["cuts"]) == 1
    assert [shard["node"] for shard in made["shards"]] == ["local-1", "local-2"]
    assert sum(shard["weight_bytes"] for shard in made["shards"]) > 0
    assert made["predicted"]["throughput"] > 0
    code, out, err = run(capsys, "run", MODEL, "--plan", str(plan), "--local", "2", "--input", "random:32", "--json")
    assert code == 0, err
    assert json.loads(out)["request"]["cuts"] == made["cuts"]
    assert "key" not in err


def test_plan_prints_shards_and_the_prediction(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "plan", MODEL, "--strategy", "pipeline", "--local", "2")
    assert code == 0
    assert re.search(r", cut at (\d+) \(before [a-z0-9]+\)\n(.*\n)+local-1 +layers? (1-)?\1 ", out)
    assert re.search(r"^node +runs +weights +memory +compute ms +receive +send +wait +sends +busy$", out, re.MULTILINE)
    assert re.search(r"^local-1 .* MiB of [0-9.]+ [MG]iB ", out, re.MULTILINE)
    assert re.search(r"^sent for a micro-batch to +local-1 +local-2 +workstation$", out, re.MULTILINE)
    assert re.search(r"^predicted: [0-9.]+ items/s, .* local-[12] alone: [0-9.]+ items/s$", out, re.MULTILINE)
    assert re.search(r"^bottleneck: .*local-|^bottleneck: the workstation", out, re.MULTILINE)
    assert re.search(r"^best change: ", out, re.MULTILINE)


def test_plan_json_has_each_nodes_time_and_memory_and_what_would_be_better(
    capsys: pytest.CaptureFixture[str],
) -> None:
    told = run_json(capsys, "plan", MODEL, "--strategy", "replicate", "--local", "2", "--objective", "latency")
    for row in told["per_node"]:
        assert row["period_ms"] > 0
        assert row["compute_ms"] > 0
        assert min(row["receive_ms"], row["send_ms"], row["wait_ms"]) >= 0
        assert min(row["sent_bytes"], row["received_bytes"]) > 0
        assert 0 < row["memory_bytes"] < row["memory_limit"]
    assert {(link["source"], link["target"]) for link in told["division"]["links"]} == {
        ends for name in ("local-1", "local-2") for ends in (("workstation", name), (name, "workstation"))
    }
    assert told["single_node"].startswith("local-")
    assert told["bottleneck_words"]
    for change in told["changes"]:
        assert change["gain"] > 0
        assert change["words"].endswith("% latency")
        assert set(change["nodes"]) <= {"local-1", "local-2"}


def test_bench_shows_every_strategy_beside_its_prediction(capsys: pytest.CaptureFixture[str]) -> None:
    report = run_json(capsys, "bench", MODEL, "--local", "2", "--seconds", "0.2")
    assert [row["strategy"] for row in report["results"]] == ["single", "replicate", "pipeline", "tensor", "spatial"]
    assert report["refused"] == []
    assert len({row["items"] for row in report["results"]}) == 1
    for row in report["results"]:
        assert row["error"] == pytest.approx(row["throughput"] / row["predicted_throughput"] - 1)
        assert row["latency_error"] == pytest.approx(row["idle_latency_ms"] / row["predicted_latency_ms"] - 1)
        loaded = row["latency_p50_ms"] / row["predicted_loaded_latency_ms"] - 1
        assert row["loaded_latency_error"] == pytest.approx(loaded)
        assert min(row["throughput"], row["predicted_throughput"], row["idle_latency_ms"]) > 0


def test_nodes_by_address(capsys: pytest.CaptureFixture[str], own_home: Path) -> None:
    with start_local_agents(2) as agents:
        options = [part for agent in agents.agents for part in ("--node", "{}:{}".format(*as_address(agent)))]
        # Their pairing ports are not beside the control ports, so they are paired first, as a person would.
        with open_cluster(local=agents.agents, discovery=False) as cluster:
            cluster.wait_ready(2, 60)
            for agent in agents.agents:
                reached = cluster.add_address(agent.host, agent.control_port, pairing_port=agent.pairing_port)
                assert reached.result(60) == agent.id
        report = run_json(capsys, "run", MODEL, "--strategy", "replicate", *options, "--input", "random:40")
        assert [node["name"] for node in report["nodes"]] == ["local-1", "local-2"]


def test_bench_tells_what_a_model_cannot_take_beside_what_it_can(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(
        capsys,
        *("bench", "lstm", "--local", "2", "--seconds", "0.1"),
        *("--strategy", "tensor", "--strategy", "spatial", "--strategy", "replicate ( 2 )"),
    )
    assert code == 0, err
    rows = {line.split("  ")[0]: line for line in out.splitlines()[3:6]}
    assert set(rows) == {"tensor", "replicate ( 2 )", "spatial"}
    assert "cannot be run, see below" in rows["spatial"]
    assert "spatial: Nothing of this model can be divided by spatial" in out.splitlines()[-1]
    code, out, err = run(capsys, "bench", "lstm", "--local", "2", "--strategy", "spatial")
    assert (code, out) == (2, "")
    assert "Nothing of this model can be divided" in err


BAD: list[tuple[Sequence[str], int, str]] = [
    (("run", "no-such-model", "--local", "1", "--input", "random:1"), 2, "no model 'no-such-model'"),
    (("run", MODEL, "--local", "1", "--input", "random:none"), 2, "random:N"),
    (("run", MODEL, "--local", "1", "--input", "no-such-file.npz"), 2, "no file or folder"),
    (("run", MODEL, "--local", "1", "--input", "random:1", "--output", "no-such-folder/y.npz"), 2, "no-such-folder"),
    (("run", MODEL, "--local", "1", "--input", "random:1", "--output", "y.txt"), 2, "ends in .npz or .csv"),
    (("run", MODEL, "--local", "1", "--input", "random:1", "--strategy", "magic"), 2, "expected single, replicate"),
    (
        ("plan", MODEL, "--local", "4", "--strategy", "replicate(2) > tesnor(2)"),
        2,
        "               ^^^^^^ Did you mean tensor?",
    ),
    (("plan", MODEL, "--local", "3", "--strategy", "replicate(2) > tensor(2)"), 2, "needs 4 nodes; 3 are given"),
    (("plan", MODEL, "--node", "a:1", "--node", "b:1", "--strategy", "tensor(4)"), 2, "needs 4 nodes; 2 are given"),
    (("plan", MODEL, "--local", "2", "--strategy", "tensor @ local-1, local-1"), 2, "local-1 is named twice"),
    (("plan", MODEL, "--local", "2", "--strategy", "tensor @ local-1, lokal-2"), 2, "^ Did you mean local-2?"),
    (("plan", MODEL, "--local", "2", "--strategy", "replicate", "--tensor-axis", "rows"), 2, "'replicate' has none"),
    (("plan", MODEL, "--local", "2", "--strategy", "tensor", "--spatial-axis", "rows"), 2, "'tensor' has none"),
    (("plan", MODEL, "--local", "2", "--tensor-axis", "rows"), 2, "auto decides that itself"),
    (("plan", MODEL, "--local", "2", "--strategy", "tensor", "--tensor-axis", "up"), 2, "invalid choice"),
    (("plan", MODEL, "--local", "2", "--strategy", "tensor", "--shares", "60,30"), 2, "add up to 90, not 100"),
    (("plan", MODEL, "--local", "3", "--strategy", "tensor", "--shares", "60,40"), 2, "3 nodes; 2 shares are given"),
    (("plan", MODEL, "--local", "2", "--strategy", "tensor", "--shares", "100,0"), 2, "more than 0 per cent, not 0"),
    (("plan", MODEL, "--local", "2", "--strategy", "tensor", "--shares=-10,110"), 2, "more than 0 per cent, not -10"),
    (
        ("plan", MODEL, "--local", "2", "--strategy", "tensor", "--shares", "half,half"),
        2,
        "'half' in 'half,half' is not",
    ),
    (("bench", MODEL, "--local", "2", "--shares", "50,50"), 2, "--shares goes with --strategy"),
    (("bench", MODEL, "--local", "2", "--strategy", "single", "--strategy", "tensor(3)"), 2, "needs 3 nodes"),
    (
        ("run", MODEL, "--local", "1", "--input", "random:1", "--plan", "p", "--shares", "100"),
        2,
        "a saved plan says that",
    ),
    (("run", MODEL, "--local", "1", "--input", "random:1", "--plan", "no-such-plan"), 2, "cannot be read"),
    (("run", MODEL, "--local", "1"), 2, "--input"),
    (("run", MODEL, "--local", "0", "--input", "random:1"), 2, "from 1 to 64"),
    (("run", MODEL, "--local", "1", "--node", "a:1", "--input", "random:1"), 2, "not allowed with"),
    (("run", MODEL, "--node", "127.0.0.1:port", "--input", "random:1"), 2, "is not a port"),
    (("run", MODEL, "--node", "127.0.0.1:1", "--input", "random:1"), 3, "nothing listens on port 1"),
    (("run", MODEL, "--node", "no-such-machine.invalid", "--input", "random:1"), 3, "No machine has the name"),
    (("plan", MODEL, "--local", "1", "--save", "no-such-folder/p.json"), 2, "no-such-folder"),
    (("plan", MODEL, "--local", "1", "--save", "plan.onnx"), 2, "ends in .json"),
    (("pair", "127.0.0.1:1", "not a code"), 2, "not a pairing code"),
    (("pair", "127.0.0.1:1", "0000-0000-00"), 3, "nothing listens on port 2"),
    (("magic",), 2, "invalid choice"),
]


@pytest.mark.parametrize(("argv", "expected", "words"), BAD, ids=[" ".join(argv) for argv, _, _ in BAD])
def test_bad_usage_has_words_and_a_code_and_starts_nothing(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    argv: Sequence[str],
    expected: int,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *argv)
    assert (code, out) == (expected, "")
    assert words in err
    assert "Starting" not in err
    assert list(tmp_path.iterdir()) == []


def test_damaged_models_and_inputs_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "no.onnx").write_text("hello")
    (tmp_path / "cut.onnx").write_bytes(resource_path("models", f"{MODEL}.onnx").read_bytes()[:3000])
    (tmp_path / "empty").mkdir()
    np.savez(tmp_path / "name.npz", wrong=np.zeros((2, 1, 8, 8), np.float32))
    np.savez(tmp_path / "shape.npz", image=np.zeros((2, 3), np.float32))
    np.savez(tmp_path / "type.npz", image=np.zeros((2, 1, 8, 8), np.int32))
    cases = {
        ("no.onnx", "random:1"): "not an ONNX model",
        ("cut.onnx", "random:1"): "cut short",
        (MODEL, "empty"): "holds no pictures",
        (MODEL, "name.npz"): "'wrong'",
        (MODEL, "shape.npz"): "4 dimensions",
        (MODEL, "type.npz"): "int32",
    }
    for (model, given), words in cases.items():
        path = str(tmp_path / model) if model != MODEL else model
        source = given if ":" in given else str(tmp_path / given)
        code, _, err = run(capsys, "run", path, "--local", "1", "--input", source)
        assert code == 2, err
        assert words in err


def test_a_batch_that_a_model_does_not_take_is_refused_before_anything_starts(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    import onnx

    fixed = onnx.load(mlp(tmp_path).path or "")
    for value in (*fixed.graph.input, *fixed.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 2
    onnx.save(fixed, tmp_path / "fixed.onnx")
    argv = ("run", str(tmp_path / "fixed.onnx"), "--local", "1", "--input", "random:5", "--batch")
    code, _, err = run(capsys, *argv, "3")
    assert code == 2
    assert "fixed batch of 2" in err
    assert "Starting" not in err


def test_an_unforeseen_error_is_told_as_our_bug(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, own_home: Path
) -> None:
    from core.commands import nodes

    def fail(_options: object) -> int:
        raise KeyError("surprise")

    monkeypatch.setattr(nodes, "run", fail)
    code, _, err = run(capsys, "nodes")
    assert code == 4
    assert "bug in Shardboard" in err
    assert "Traceback" not in err
    assert "surprise" in (own_home / "cache" / "last-bug.txt").read_text()


def test_a_missing_package_is_named_with_the_command_that_installs_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.delitem(sys.modules, "core.commands.plan", raising=False)
    monkeypatch.delitem(sys.modules, "core.commands.opening", raising=False)
    for name in [name for name in sys.modules if name.startswith("core.model")]:
        monkeypatch.delitem(sys.modules, name)
    code, _, err = run(capsys, "plan", MODEL, "--local", "1")
    assert code == 2
    assert "pip install 'shardboard[gui]'" in err


def start_command(*argv: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "core.cli", *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for_children(process: subprocess.Popen[str], count: int) -> list[psutil.Process]:
    deadline = time.monotonic() + 60
    while len(children := psutil.Process(process.pid).children()) < count:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return children


@pytest.mark.skipif(os.name != "posix", reason="Windows has no SIGINT for one process")
def test_ctrl_c_stops_the_job_and_leaves_nothing_behind() -> None:
    process = start_command("run", MODEL, "--local", "2", "--input", "random:100000", "--repeat", "10000")
    children = wait_for_children(process, 2)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("Running"):
            break
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped" in err
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive


@pytest.mark.skipif(os.name != "posix", reason="the same on Windows by the closing of the pipe, but kill differs")
def test_agents_end_when_the_command_is_killed() -> None:
    process = start_command("run", MODEL, "--local", "2", "--input", "random:100000", "--repeat", "10000")
    children = wait_for_children(process, 2)
    process.kill()
    process.communicate(timeout=60)
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive


def test_nodes_lists_an_announced_agent(capsys: pytest.CaptureFixture[str]) -> None:
    with start_local_agents(1, announce=True) as agents:
        for wait in ("2", "10", "30"):  # a busy machine takes longer
            found = run_json(capsys, "nodes", "--wait", wait)
            if found["discovery_problem"]:
                pytest.skip(found["discovery_problem"])
            mine = [node["state"] for node in found["nodes"] if node["id"] == agents.agents[0].id]
            if mine == ["ready"]:
                break
        assert mine == ["ready"]
        for wait in ("2", "10", "30"):
            code, out, _ = run(capsys, "doctor", "--wait", wait)
            if code == 0:
                break
        assert code == 0, out
        assert "All is well." in out
        assert "local-1: ports" in out


def test_doctor_names_the_hop_that_fails(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "doctor", "--wait", "0.2", "--node", "127.0.0.1:1")
    assert code == 3
    assert "FAIL  address 127.0.0.1:1: 127.0.0.1 is there, but nothing listens on port 1." in out
    assert "begin with the first" in out


def test_doctor_sees_a_key_that_others_can_read(capsys: pytest.CaptureFixture[str], own_home: Path) -> None:
    if os.name != "posix":
        pytest.skip("file modes are POSIX's")
    run(capsys, "doctor", "--wait", "0.1")
    key = own_home / "config" / "workstation.key"
    key.chmod(0o644)
    try:
        code, out, _ = run(capsys, "doctor", "--wait", "0.1")
    finally:
        key.chmod(0o600)
    assert code == 3
    assert f"chmod 600 {key}" in out


def test_help_and_version_are_instant() -> None:
    for option in ("--help", "--version"):
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-m", "core.cli", option], capture_output=True, text=True, check=True
        )
        assert "onnxruntime" not in done.stderr
        assert "zmq" not in done.stderr


def test_the_panel_needs_a_display(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("other systems always have one")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    code, _, err = run(capsys)
    assert code == 2
    assert "demo --headless" in err
