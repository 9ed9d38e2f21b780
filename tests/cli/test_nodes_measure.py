"""shardboard nodes --measure, as people and scripts see it."""

from __future__ import annotations

import json

import pytest

from core.cli import main
from core.cluster.local import start_local_agents
from core.cluster.measured import MEASUREMENTS_FILE
from core.paths import data_dir
from core.plan.form import NodeId, Sha256
from core.run.calibration import Calibration
from core.run.calibrations import CalibrationStore


def test_measuring_prints_nodes_and_links_and_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    with start_local_agents(1, announce=True, names=["bench"]) as agents:
        seen = [Calibration(node, Sha256("f" * 64), 0.5, 1.0, 1.0) for node in (agents.agents[0].id, NodeId("other"))]
        CalibrationStore().save(seen)
        for wait in ("2", "20"):  # a busy machine takes longer to see it
            assert main(["nodes", "--wait", wait, "--measure"]) == 0
            out, err = capsys.readouterr()
            if "bench" in out:
                break
        else:
            pytest.skip(f"nothing was found by mDNS: {err}")
        for heading in ("GEMM GFLOP/s", "conv GFLOP/s", "element-wise GB/s", "memory GB/s", "free memory", "speed"):
            assert heading in out
        assert "Mbit/s with messages of" in out
        assert "16 MiB" in out
        assert "processors" in out
        assert "Measuring nodes and links" in err
        assert CalibrationStore().all() == (seen[1],), "what runs showed of a node counts no more once it is measured"

        for wait in ("1", "30"):
            assert main(["nodes", "--wait", wait, "--json"]) == 0  # kept
            report = json.loads(capsys.readouterr().out)
            if own := [node for node in report["nodes"] if node["id"] == agents.agents[0].id]:
                break
        (node,) = own
        assert node["benchmark"]["gemm_flops"] > 0
        assert node["speed"] > 0
        assert [words for words in node["stale"] if "memory" not in words] == []  # others may take memory meanwhile
        assert node["not_measured"] == ""
        assert report["workstation"]["threads"] == 1
        ends = {(link["source"], link["target"]) for link in report["links"]}
        assert {("", node["id"]), (node["id"], "")} <= ends

        file = data_dir() / MEASUREMENTS_FILE
        file.write_bytes(b"{")
        assert main(["nodes", "--wait", "0.1"]) == 0
        assert "is damaged" in capsys.readouterr().err
        file.unlink()


def test_without_nodes_there_is_nothing_to_measure(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nodes", "--wait", "0.1", "--measure", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["problems"] == []
