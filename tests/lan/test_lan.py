"""Agents on machines of their own: found by mDNS, used over their own links, unplugged."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.model.library import resolve_model
from core.run.source import open_source
from core.wire.keys import load_or_create_key_file
from tests.lan.virtual_lan import VirtualLan, why_not

pytestmark = [pytest.mark.lan, pytest.mark.slow, pytest.mark.skipif(why_not() is not None, reason=str(why_not()))]

WORKSTATION = 0
DIGITS = "resources/samples/digits"


class Laboratory:
    """Host 0 is the workstation; the others run agents."""

    def __init__(self, lan: VirtualLan, folder: Path) -> None:
        self.lan, self.folder = lan, folder
        self.home = {"SHARDBOARD_HOME": str(folder / "home")}
        self.key_file = folder / "home" / "config" / "shared.key"
        self.key_file.parent.mkdir(parents=True)
        load_or_create_key_file(self.key_file)

    def start_agent(self, host: int, *options: str) -> Path:
        log = self.folder / f"node{host}.log"
        state = ["--state-dir", str(self.folder / f"node{host}"), "--name", f"node{host}"]
        self.lan.start(host, [sys.executable, "-m", "agent", *state, *options], env=self.home, log=log)
        return log

    def start_paired_agents(self, *hosts: int) -> None:
        for host in hosts:
            self.start_agent(host, "--key-file", str(self.key_file))

    def shardboard(self, *words: str, timeout: float = 90.0) -> tuple[int, Any, str]:
        """Exit code, the JSON object printed (where the command has --json), and standard error."""
        as_json = [] if words[0] == "pair" else ["--json"]
        done = self.lan.run(
            WORKSTATION, [sys.executable, "-m", "core.cli", *words, *as_json], env=self.home, timeout=timeout
        )
        return done.returncode, json.loads(done.stdout) if as_json and done.stdout.strip() else None, done.stderr

    def nodes(self, are: Callable[[Any], bool], *words: str) -> Any:
        """What ``nodes`` tells once it tells what is waited for: a busy machine takes longer than it is given first."""
        for wait in ("6", "30"):
            code, told, errors = self.shardboard("nodes", "--wait", wait, *words)
            assert code == 0, errors
            if are(told):
                break
        return told


@pytest.fixture
def laboratory(tmp_path: Path) -> Iterator[Laboratory]:
    with VirtualLan(3) as lan:
        yield Laboratory(lan, tmp_path)


def states(told: Any) -> list[str]:
    return [node["state"] for node in told["nodes"]]


def until(condition: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def test_nodes_are_found_by_mdns_and_a_pipeline_over_them_is_right(laboratory: Laboratory) -> None:
    laboratory.start_paired_agents(1, 2)
    laboratory.lan.shape(2, "100mbit")
    nodes = laboratory.nodes(lambda told: states(told) == ["ready"] * 2)
    assert {(n["name"], n["address"], n["state"]) for n in nodes["nodes"]} == {
        ("node1", "10.77.0.2:7420", "ready"),
        ("node2", "10.77.0.3:7420", "ready"),
    }
    out = laboratory.folder / "out.npz"
    code, report, errors = laboratory.shardboard(
        "run", "digits-mlp", "--strategy", "pipeline", "--input", "random:50", "--output", str(out), "--verify"
    )
    assert code == 0, errors
    assert report["verified"]
    assert report["items"] == 50
    model, _ = resolve_model("digits-mlp")
    (batch,) = open_source("random:50", model).batches(50)
    (expected,) = model.reference()(batch.feed)
    np.testing.assert_allclose(np.load(out)[model.outputs[0].name], expected, rtol=1e-4, atol=1e-6)


def test_a_pulled_cable_loses_nothing_under_replicate(laboratory: Laboratory) -> None:
    laboratory.start_paired_agents(1, 2)
    code, report, errors = _run_and_pull_the_plug(laboratory, "replicate")
    assert code == 0, errors
    assert report["items"] == 60 * REPEATS
    assert any("node2" in note for note in report["notes"])


def test_a_pulled_cable_ends_a_pipeline_with_words(laboratory: Laboratory) -> None:
    laboratory.start_paired_agents(1, 2)
    code, _, errors = _run_and_pull_the_plug(laboratory, "pipeline")
    assert code == 4
    assert "node2" in errors
    assert "lost" in errors


REPEATS = 400


def _run_and_pull_the_plug(laboratory: Laboratory, strategy: str) -> tuple[int, Any, str]:
    lan, log = laboratory.lan, laboratory.folder / "run.log"
    command = [sys.executable, "-m", "core.cli", "run", "digits-cnn", "--strategy", strategy, "--input", DIGITS]
    result = laboratory.folder / "result.json"
    shell = ["sh", "-c", f'"$@" --batch 2 --repeat {REPEATS} --json > {result}', "sh", *command]
    process = lan.start(WORKSTATION, shell, env=laboratory.home, log=log)
    until(lambda: process.poll() is not None or "Running" in log.read_text(), 60)
    before = _received(laboratory, 2)
    until(lambda: process.poll() is not None or _received(laboratory, 2) > before + 100_000, 60)
    assert process.poll() is None, log.read_text()
    lan.cut(2)
    code = process.wait(60)
    printed = result.read_text().strip()
    return code, json.loads(printed) if printed else None, log.read_text()


def _received(laboratory: Laboratory, host: int) -> int:
    shown = laboratory.lan.run(host, ["cat", "/proc/net/dev"], env={}, timeout=60).stdout
    match = re.search(r"eth0:\s*(\d+)", shown)
    return int(match[1]) if match else 0


def test_a_node_is_paired_by_its_code(laboratory: Laboratory) -> None:
    log = laboratory.start_agent(1)
    found: list[str] = []

    def printed() -> bool:
        found[:] = re.findall(r"\b[0-9A-Z]{4}-[0-9A-Z]{4}-[0-9A-Z]{2}\b", log.read_text())
        return bool(found)

    until(printed, 60)
    nodes = laboratory.nodes(lambda told: states(told) == ["discovered"])
    assert [(n["state"], "pair" in n["reason"]) for n in nodes["nodes"]] == [("discovered", True)]
    wrong = "AAAA-AAAA-AA"
    code, _, errors = laboratory.shardboard("pair", "10.77.0.2", wrong)
    assert code != 0
    code, _, errors = laboratory.shardboard("pair", "10.77.0.2", found[0])
    assert code == 0, errors
    assert states(laboratory.nodes(lambda told: states(told) == ["ready"])) == ["ready"]


def test_links_are_measured_as_fast_as_they_are(laboratory: Laboratory) -> None:
    """The shaped one is so slow that nothing else which this machine may have to do makes it slower."""
    laboratory.start_paired_agents(1, 2)
    laboratory.lan.shape(2, "20mbit")
    laboratory.nodes(lambda told: states(told) == ["ready"] * 2)
    code, report, errors = laboratory.shardboard("nodes", "--wait", "6", "--measure")
    assert code == 0, errors
    assert report["problems"] == []
    ids = {node["name"]: node["id"] for node in report["nodes"]} | {"desk": ""}
    assert all(node["benchmark"]["gemm_core_flops"] > 0 for node in report["nodes"])
    links = {(link["source"], link["target"]): link for link in report["links"]}
    assert len(links) == 6
    for one, other in (("desk", "node2"), ("node1", "node2")):
        for pair in ((ids[one], ids[other]), (ids[other], ids[one])):
            assert links[pair]["limited_by"] == "line"
            assert links[pair]["bits_per_s"] == pytest.approx(20e6, rel=0.25)
            sizes = [nbytes for nbytes, _ in links[pair]["samples"]]
            assert sizes[0] == 1024
            assert sizes[-1] >= 256 * 1024
    free = links[ids["desk"], ids["node1"]]
    assert free["bits_per_s"] > 2 * 20e6
    kept = laboratory.nodes(lambda told: states(told) == ["ready"] * 2)
    assert {(link["source"], link["target"]) for link in kept["links"]} == set(links)
    assert all(node["benchmark"] and node["speed"] for node in kept["nodes"])
    stale = {words for node in kept["nodes"] for words in node["stale"]}
    assert all("memory" in words for words in stale), "which others may take meanwhile"
    laboratory.lan.shape(2, "2mbit")
    looked = laboratory.lan.run(WORKSTATION, [sys.executable, "-c", LOOK_AT_LINKS], env=laboratory.home, timeout=90)
    words = r"node2 has a slower link: ([\d.]+) Mbit/s .* now, ([\d.]+) Mbit/s when that was measured"
    found = re.match(words, looked.stdout)
    assert found, (looked.stdout, looked.stderr)
    assert float(found[1]) < float(found[2]) / 3


LOOK_AT_LINKS = """
from core.cluster.opening import open_cluster
with open_cluster() as cluster:
    nodes = cluster.wait_ready(2, 60)
    for node, reasons in cluster.check_links([node.id for node in nodes]).items():
        print(cluster.node(node).name, *reasons)
"""
"""As ``plan`` and ``run`` do before they predict."""
