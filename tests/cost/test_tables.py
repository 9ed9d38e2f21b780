"""Sums over ranges of layers against the same counted layer by layer."""

from __future__ import annotations

from core.cost.tables import CLIENT, tables
from core.model.reader import model_from_ir
from core.plan.compile import compile_plan
from tests.plan.models import WIDTH, chain, request, skipping

ROW = WIDTH * 4


def test_counted_once_for_a_model_and_a_batch() -> None:
    model = skipping()
    assert tables(model, 2) is tables(model, 2)
    assert tables(model, 2) is not tables(model, 3)


def test_a_copy_of_the_graph_counts_for_itself() -> None:
    model = skipping()
    first = tables(model, 2)
    copy = model_from_ir(model.ir.clone(), name="copy", sha256=model.sha256)
    copy.ir.meta.update(model.ir.meta)
    assert tables(copy, 2) is not first


def test_weights_of_a_range() -> None:
    known = tables(chain(4), 2)
    matrix = WIDTH * ROW
    assert known.weight_bytes(0, 8) == 4 * matrix
    assert known.weight_bytes(2, 4) == matrix
    assert known.weight_bytes(3, 4) == 0
    assert known.weight_bytes(4, 8, again=(0, 5)) == 3 * matrix


def test_activations_of_a_range_are_at_least_those_of_its_shard() -> None:
    model = skipping()
    known = tables(model, 2)
    plan = compile_plan(model, request("pipeline", 3, cuts=(2, 4))).plan
    for shard, (first, last) in zip(plan.shards, ((0, 2), (2, 4), (4, 6)), strict=True):
        handed_on = 2 * ROW * (len(shard.inputs) + len(shard.outputs))
        assert known.activation_bytes(first, last) + handed_on >= shard.activation_bytes


def test_traffic_follows_the_routes() -> None:
    known = tables(skipping(), 2)
    item = 2 * ROW
    assert known.traffic((0, 1, 2, 4, 6)) == {
        (CLIENT, 0): item,
        (CLIENT, 3): item,  # z
        (0, 1): item,
        (0, 3): item,  # a, over two stages
        (1, 2): item,
        (1, CLIENT): item,  # b
        (2, 3): item,
        (3, CLIENT): item,
    }


def test_what_goes_the_same_way_adds_up() -> None:
    known = tables(skipping(), 2)
    item = 2 * ROW
    assert known.traffic((0, 4, 6)) == {
        (CLIENT, 0): item,
        (CLIENT, 1): item,
        (0, CLIENT): item,
        (0, 1): 2 * item,
        (1, CLIENT): item,
    }
    assert known.traffic((0, 6)) == {(CLIENT, 0): 2 * item, (0, CLIENT): 2 * item}
