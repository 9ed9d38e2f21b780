"""tensor, spatial and nestings as scripts use them, on agents of this machine."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.cli.test_commands import MODEL, feed_file, run, run_json


@pytest.mark.parametrize("strategy", ["replicate(2) > tensor(2)", "pipeline > tensor(2)"])
def test_a_nesting_gives_what_onnxruntime_gives(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, strategy: str
) -> None:
    inputs, expected = feed_file(tmp_path, 21)
    outputs = tmp_path / "outputs.npz"
    report = run_json(
        capsys,
        *("run", MODEL, "--local", "4", "--strategy", strategy, "--input", str(inputs), "--output", str(outputs)),
        *("--verify", "--batch", "4"),
    )
    with np.load(outputs) as found:
        np.testing.assert_allclose(found[found.files[0]], expected[0], rtol=1e-4, atol=1e-5)
    assert report["strategy"] == strategy.replace("pipeline >", "pipeline(2) >")
    assert report["verified"] is True
    assert len(report["nodes"]) == 4


def test_a_plan_reports_how_it_divides_the_model(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    options = (
        "--strategy",
        "tensor @ local-2, local-1",
        "--tensor-axis",
        "columns",
        "--shares",
        "75,25",
        "--batch",
        "1",
    )
    made = run_json(capsys, "plan", MODEL, "--local", "2", *options, "--save", str(plan))
    assert (made["strategy"], made["nodes"]) == ("tensor", ["local-2", "local-1"])
    assert (made["tensor_axis"], made["shares"]) == ("columns", [0.75, 0.25])
    assert [row["node"] for row in made["per_node"]] == ["local-2", "local-1"]
    assert made["per_node"][0]["work"] == pytest.approx(0.75, abs=0.05)
    assert made["per_node"][0]["weight_bytes"] > 2 * made["per_node"][1]["weight_bytes"]
    division = made["division"]
    assert 0.9 < division["split_share"] <= 1
    assert {row["kind"] for row in division["exchanges"]} >= {"all-gather", "input", "output"}
    assert division["collectives"] == sum(row["count"] for row in division["exchanges"] if row["kind"] == "all-gather")
    between = sum(link["nbytes"] for link in division["links"] if "workstation" not in (link["source"], link["target"]))
    assert between == division["collective_bytes"] > 0
    columns = next(row for row in division["manners"] if row["kind"] == "columns")
    assert [part["ranges"] for part in columns["parts"]] == [[[0, 48]], [[48, 64]]]
    assert len(division["layers"]) == max(row["layer"] for row in division["layers"])
    assert {shard["node"] for shard in made["shards"]} == {"local-1", "local-2"}

    report = run_json(capsys, "run", MODEL, "--plan", str(plan), "--local", "2", "--input", "random:9", "--verify")
    assert report["verified"] is True
    assert report["request"]["shares"] == [0.75, 0.25]
    assert report["request"]["tensor_axis"] == "columns"
    assert [node["name"] for node in report["nodes"]] == ["local-2", "local-1"]
    code, _, err = run(capsys, "run", MODEL, "--plan", str(plan), "--local", "1", "--input", "random:1")
    assert code == 3
    assert "is for 2 nodes; 1 is here: " in err
    edited = json.loads(plan.read_text())
    assert [node["share_percent"] for node in edited["nodes"]] == [75, 25]
    edited["nodes"][1]["share_percent"] = 50
    plan.write_text(json.dumps(edited))
    code, _, err = run(capsys, "run", MODEL, "--plan", str(plan), "--local", "2", "--input", "random:1")
    assert code == 2
    assert "The shares of local-2 and local-1 add up to 125, not 100" in err
    assert "Starting" not in err


def test_a_person_reads_the_division_at_a_glance(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ("plan", MODEL, "--strategy", "spatial", "--shares", "50,50", "--local", "2", "--batch", "1")
    code, out, err = run(capsys, *argv)
    assert code == 0, err
    assert "of the multiply-adds are divided; a micro-batch takes" in out
    assert re.search(r"^image rows +\d+ +.* 0-\d +\d-7$", out, re.MULTILINE)
    assert "sent for a micro-batch to" in out
    assert len(out.splitlines()) < 40


def small_model(path: Path, inputs: int, outputs: int) -> str:
    """An .onnx file: one MatMul of ``inputs`` by ``outputs``."""
    weight = np.arange(inputs * outputs, dtype=np.float32).reshape(inputs, outputs)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", inputs])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", outputs])],
        [numpy_helper.from_array(weight, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return str(path)


def test_a_layer_that_cannot_be_divided_as_forced_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = small_model(tmp_path / "small.onnx", 4, 1)
    argv = ("plan", path, "--local", "2", "--strategy", "tensor", "--tensor-axis")
    code, out, err = run(capsys, *argv, "columns")
    assert (code, out) == (2, "")
    assert "product (MatMul)" in err
    assert "Use " in err
    code, out, _ = run(capsys, *argv, "rows")
    assert code == 0
    assert "rows             1  MatMul     100 %" in out


def test_more_nodes_than_columns_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = small_model(tmp_path / "small.onnx", 2, 2)
    code, out, err = run(capsys, "plan", path, "--local", "3", "--strategy", "tensor", "--shares", "50,30,20")
    assert (code, out) == (2, "")
    assert "Rank 3 would have nothing to do" in err
    assert "Use fewer nodes." in err


def test_more_nodes_than_rows_of_the_image_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    weight = np.ones((2, 1, 1, 1), np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], name="conv")],
        "image",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 2, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2, 2, 2])],
        [numpy_helper.from_array(weight, "w")],
    )
    path = tmp_path / "image.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    code, out, err = run(capsys, "plan", str(path), "--local", "3", "--strategy", "spatial")
    assert (code, out) == (2, "")
    assert "'x' has 2 rows, which 3 nodes cannot share" in err


def test_bench_compares_nestings_where_the_number_of_nodes_allows_them(capsys: pytest.CaptureFixture[str]) -> None:
    report = run_json(capsys, "bench", "digits-mlp", "--local", "4", "--seconds", "0.05", "--batch", "4")
    told = [row["strategy"] for row in report["results"]] + [row["strategy"] for row in report["refused"]]
    assert set(told) >= {"single", "tensor", "replicate(2) > tensor(2)", "pipeline(2) > tensor(2)"}
    assert all(row["speedup"] > 0 for row in report["results"])
