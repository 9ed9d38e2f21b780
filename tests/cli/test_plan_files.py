"""Plan files are edited by hand and carried from one laboratory to another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from core.cluster.node import Node
from core.commands.plan_files import load_plan, place_plan
from core.errors import InputError, PlacementError, PlanError
from core.model.graph import Model
from core.model.library import open_entry
from core.plan.form import NodeId, PlanFile, PlanRequest

IDS = tuple(NodeId(letter * 40) for letter in "ABCD")
NAMES = ("pi-1", "pi-2", "pi-3", "pi-4")


@pytest.fixture(scope="module")
def model() -> Model:
    return open_entry("digits-mlp")


def plan_file(model: Model, nodes: int = 4, **said: Any) -> PlanFile:
    request = PlanRequest(**{"strategy": "replicate(2) > tensor(2)", "nodes": IDS[:nodes], "micro_batch": 4} | said)
    return PlanFile(model=model.sha256, model_name=model.name, request=request, node_names=NAMES[:nodes])


def written(folder: Path, file: PlanFile) -> Path:
    path = folder / "plan.json"
    path.write_bytes(msgspec.json.encode(file))
    return path


def test_every_field_of_a_request_comes_back(tmp_path: Path, model: Model) -> None:
    file = plan_file(model, tensor_axis="rows", shares=(0.7, 0.3, 0.25, 0.75))
    assert load_plan(written(tmp_path, file), model) == file
    nested = plan_file(model, strategy="pipeline(2) > spatial(2)", spatial_axis="columns", cuts=(2,))
    assert load_plan(written(tmp_path, nested), model) == nested


def test_a_file_from_before_these_fields_is_read(tmp_path: Path, model: Model) -> None:
    old = msgspec.to_builtins(plan_file(model, 2, strategy="pipeline", cuts=(3,)))
    for field in ("tensor_axis", "spatial_axis", "shares"):
        del old["request"][field]
    path = tmp_path / "plan.json"
    path.write_bytes(msgspec.json.encode(old))
    assert load_plan(path, model) == plan_file(model, 2, strategy="pipeline", cuts=(3,))


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"strategy": "replicate(2) > tesnor(2)"}, "There is no strategy 'tesnor'"),
        ({"strategy": "replicate(2) > tensor(3)"}, "replicate(2) > tensor(3) needs 6 nodes; 4 are given."),
        ({"shares": (0.5, 0.5)}, "it has 4 nodes, but 2 shares."),
        ({"shares": (0.5, 0.5, 0.5, 0.6)}, "the shares 0.5, 0.6 do not add up to 1."),
        ({"shares": (1.0, 0.0, 0.5, 0.5)}, "a share is above 0, not 0."),
        ({"shares": (2.0, -1.0, 0.5, 0.5)}, "a share is above 0, not -1."),
        ({"tensor_axis": "up"}, 'tensor_axis is "rows" or "columns", not \'up\'.'),
        ({"spatial_axis": "depth"}, 'spatial_axis is "rows" or "columns", not \'depth\'.'),
    ],
)
def test_a_file_that_does_not_agree_with_itself_is_refused(
    tmp_path: Path, model: Model, said: dict[str, Any], words: str
) -> None:
    path = written(tmp_path, plan_file(model, **said))
    with pytest.raises(PlanError) as caught:
        load_plan(path, model)
    assert f"The plan {path} does not agree with itself:" in caught.value.message
    assert words in caught.value.message
    assert "--save" in caught.value.hint


def test_names_belong_to_nodes(tmp_path: Path, model: Model) -> None:
    file = msgspec.structs.replace(plan_file(model), node_names=NAMES[:3])
    with pytest.raises(PlanError, match="it has 4 nodes, but 3 names"):
        load_plan(written(tmp_path, file), model)


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b"\xff\xfe", b'{"model": 1}', b'{"format": 2, "model": "", "model_name": ""}']
)
def test_what_is_no_plan_is_refused(tmp_path: Path, model: Model, data: bytes) -> None:
    path = tmp_path / "plan.json"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"is not a plan of shardboard plan --save"):
        load_plan(path, model)


def nodes(*places: tuple[str, str]) -> list[Node]:
    return [Node(id=NodeId(letter * 40), name=name, host="h", control_port=1) for letter, name in places]


def test_a_plan_is_placed_on_its_own_nodes_then_by_name_then_in_order(model: Model) -> None:
    file = plan_file(model, 2, strategy="tensor", shares=(0.8, 0.2))
    own = nodes(("B", "x"), ("C", "y"), ("A", "z"))
    assert place_plan(file, own) == file.request
    named = place_plan(file, nodes(("X", "pi-2"), ("Y", "pi-1")))
    assert (named.nodes, named.shares) == ((NodeId("Y" * 40), NodeId("X" * 40)), (0.8, 0.2))
    others = place_plan(file, nodes(("X", "one"), ("Y", "two"), ("Z", "three")))
    assert others.nodes == (NodeId("X" * 40), NodeId("Y" * 40))


def test_too_few_nodes_for_a_plan_are_told_with_their_names(model: Model) -> None:
    with pytest.raises(PlacementError, match=r"for 4 nodes \(pi-1, pi-2, pi-3, pi-4\), 2 are there"):
        place_plan(plan_file(model), nodes(("X", "pi-1"), ("Y", "pi-2")))
