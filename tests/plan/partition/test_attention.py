"""Attention written as one operator, divided by heads, items and query positions."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.plan.layouts import REPLICATED, Ranges, Split, scaled, shifted, tidy
from core.plan.operators.base import AxisLink, Choice
from tests.plan.partition.rule_check import Array, Case
from tests.plan.partition.rule_inputs import EXAMPLES, SHARES, floats, some_parts

ITEMS, POSITIONS, KEYS, FEATURES = 2, 5, 6, 4
THREE = ((0.5, 0.5), (0.7, 0.3), (0.2, 0.5, 0.3))


def cut(heads: int, ranks: int, axis: int, unit: int = 1) -> Split:
    """Heads dealt out so that rank 0 has two ranges where there are enough of them."""
    owners = [rank % ranks for rank in range(heads)]
    parts: list[list[tuple[int, int]]] = [[] for _ in range(ranks)]
    for head, (start, stop) in enumerate(pairwise(range(0, (heads + 1) * unit, unit))):
        parts[owners[head]].append((start, stop))
    return Split(axis, tuple(tidy(ranges) for ranges in parts))


def split_axes(choice: Choice) -> list[int | None]:
    return [layout.axis if isinstance(layout, Split) else None for layout in choice.inputs]


@EXAMPLES
@given(
    st.data(),
    SHARES,
    st.booleans(),
    st.sampled_from([(4, 4), (6, 3), (4, 1), (6, 2)]),
    st.sampled_from([None, (POSITIONS, KEYS), (1, POSITIONS, KEYS), "heads", "items", "all"]),
    st.booleans(),
    st.sampled_from(["heads", "items", "positions"]),
)
def test_onnx_attention(
    data: st.DataObject,
    shares: tuple[float, ...],
    flat: bool,
    counts: tuple[int, int],
    mask: Any,
    causal: bool,
    along: str,
) -> None:
    queries, keys = counts
    width = FEATURES + 1
    if flat:
        feed = {"q": floats(ITEMS, POSITIONS, queries * FEATURES), "k": floats(ITEMS, KEYS, keys * FEATURES, seed=1)}
        feed["v"] = floats(ITEMS, KEYS, keys * width, seed=2)
    else:
        feed = {"q": floats(ITEMS, queries, POSITIONS, FEATURES), "k": floats(ITEMS, keys, KEYS, FEATURES, seed=1)}
        feed["v"] = floats(ITEMS, keys, KEYS, width, seed=2)
    shapes = {"heads": (1, queries, POSITIONS, KEYS), "items": (ITEMS, 1, POSITIONS, KEYS)}
    shapes["all"] = (ITEMS, queries, POSITIONS, KEYS)
    if mask is not None:
        feed["mask"] = floats(*(shapes[mask] if isinstance(mask, str) else mask), seed=3)
    heads: dict[str, Any] = {"q_num_heads": queries, "kv_num_heads": keys} if flat else {}
    case = Case("Attention", feed, shares=shares, is_causal=int(causal), **heads)
    step = queries // keys if keys > 1 else 1
    axis = {"heads": 2 if flat else 1, "items": 0, "positions": 1 if flat else 2}[along]
    unit = step * (FEATURES if flat else 1) if along == "heads" else 1
    layout = data.draw(some_parts(feed["q"].shape[axis], len(shares), axis, unit))
    found = case.check(q=layout)
    if along == "positions" and causal:
        assert found == []
        return
    (one,) = found
    assert one.inputs[0] == layout
    assert one.kind == ""
    whole_keys = along == "positions" or (along == "heads" and keys == 1)
    assert split_axes(one)[1:3] == [None, None] if whole_keys else [axis, axis]
    if mask is not None:
        sizes = {"heads": -3, "items": -4, "positions": -2}
        at = feed["mask"].ndim + sizes[along]
        divided = at >= 0 and feed["mask"].shape[at] > 1
        assert split_axes(one)[3] == (at if divided else None)


def test_grouped_queries_are_not_torn() -> None:
    feed = {"q": floats(1, 3, 24), "k": floats(1, 3, 8, seed=1), "v": floats(1, 3, 8, seed=2)}
    case = Case("Attention", feed, q_num_heads=6, kv_num_heads=2)
    assert case.choices(q=Split(2, (((0, 4),), ((4, 24),)))) == []
    assert case.choices(q=Split(2, (((0, 13),), ((13, 24),)))) == []
    (one,) = case.check(k=Split(2, (((4, 8),), ((0, 4),))))
    assert one.inputs[0] == Split(2, (((12, 24),), ((0, 12),)))
    assert case.choices() == []
    assert {*case.links()} >= {
        AxisLink(("out0/heads", 0), ("q", 2), inner=12),
        AxisLink(("out0/heads", 0), ("k", 2), inner=4),
    }


@pytest.mark.parametrize("shares", THREE)
@pytest.mark.parametrize("flat", [True, False])
def test_past_keys_and_values_go_with_their_heads(flat: bool, shares: tuple[float, ...]) -> None:
    shape = (lambda n, s: (ITEMS, s, n * FEATURES)) if flat else (lambda n, s: (ITEMS, n, s, FEATURES))
    feed = {"q": floats(*shape(6, 2)), "k": floats(*shape(3, 2), seed=1), "v": floats(*shape(3, 2), seed=2)}
    feed |= {"pk": floats(ITEMS, 3, 4, FEATURES, seed=3), "pv": floats(ITEMS, 3, 4, FEATURES, seed=4)}
    heads: dict[str, Any] = {"q_num_heads": 6, "kv_num_heads": 3} if flat else {}
    names = ("q", "k", "v", "", "pk", "pv")
    case = Case("Attention", feed, inputs=names, outputs=4, shares=shares, is_causal=1, **heads)
    layout = cut(3, len(shares), 1)
    (one,) = case.check(pk=layout)
    assert one.outputs[1] == one.outputs[2] == one.inputs[5] == layout
    assert len(case.check(q=cut(ITEMS, len(shares), 0))) == 1
    assert case.choices(q=Split(1 if flat else 2, (((0, 1),), ((1, 2),)))) == []
    assert any(link.child == ("out1", 1) and link.parent == ("q", 2 if flat else 1) for link in case.links())


@pytest.mark.parametrize("shares", THREE)
def test_the_only_key_head_is_not_divided(shares: tuple[float, ...]) -> None:
    feed = {"q": floats(1, 3, 16), "k": floats(1, 3, 4, seed=1), "v": floats(1, 3, 4, seed=2)}
    case = Case("Attention", feed, q_num_heads=4, kv_num_heads=1, shares=shares)
    (one,) = case.check(q=cut(4, len(shares), 2, 4))
    assert one.inputs[1] == one.inputs[2] == REPLICATED


@pytest.mark.parametrize("shares", THREE)
@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("placed", [True, False])
@pytest.mark.parametrize("domain", ["", "com.microsoft"])
def test_rotary_embedding(domain: str, placed: bool, flat: bool, shares: tuple[float, ...]) -> None:
    heads = 3
    x = floats(ITEMS, POSITIONS, heads * 4) if flat else floats(ITEMS, heads, POSITIONS, 4)
    places = np.random.default_rng(1).integers(0, 9, (ITEMS, POSITIONS))
    table = (9, 2)
    if domain:
        first = places if placed else np.array([2])
        feed: dict[str, Array] = {"x": x, "places": first, "cos": floats(*table, seed=1), "sin": floats(*table, seed=2)}
    else:
        shape = table if placed else (ITEMS, POSITIONS, 2)
        feed = {"x": x, "cos": floats(*shape, seed=1), "sin": floats(*shape, seed=2)}
        feed |= {"places": places} if placed else {}
    named: dict[str, Any] = {"num_heads": heads} if flat and not domain else {}
    case = Case("RotaryEmbedding", feed, domain=domain, shares=shares, **named)
    axis, unit = (2, 4) if flat else (1, 1)
    assert len(case.check(x=cut(heads, len(shares), axis, unit))) == 1
    assert len(case.check(x=cut(ITEMS, len(shares), 0))) == 1
    by_position = case.check(x=cut(POSITIONS, len(shares), 1 if flat else 2))
    assert len(by_position) == int(placed or not domain)
    if flat:
        assert case.choices(x=Split(2, (((0, 5),), ((5, 12),)))) == []
        assert AxisLink(("out0/heads", 0), ("x", 2), inner=4) in case.links()


@pytest.mark.parametrize("shares", THREE)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("padding", [None, "lengths", "items", "positions", "ends"])
def test_multi_head_attention(padding: str | None, bias: bool, shares: tuple[float, ...]) -> None:
    heads, width = 3, 5
    feed = {"q": floats(ITEMS, POSITIONS, heads * 4), "k": floats(ITEMS, KEYS, heads * 4, seed=1)}
    feed["v"] = floats(ITEMS, KEYS, heads * width, seed=2)
    if bias:
        feed["bias"] = floats(heads * (8 + width), seed=3)
    masks = {
        "lengths": np.array([6, 3]),
        "items": np.array([[1] * 6, [1] * 4 + [0] * 2]),
        "positions": np.tri(POSITIONS, KEYS)[None].repeat(ITEMS, 0),
        "ends": np.array([6, 3, 0, 5, 10, 0, 6, 12]),
    }
    if padding:
        feed["padding"] = masks[padding].astype(np.int32)
    feed["added"] = floats(1, heads, POSITIONS, KEYS, seed=4)
    names = ("q", "k", "v", "bias" if bias else "", "padding" if padding else "", "added")
    case = Case("MultiHeadAttention", feed, inputs=names, domain="com.microsoft", shares=shares, num_heads=heads)
    layout = cut(heads, len(shares), 2, 4)
    (one,) = case.check(q=layout)
    assert one.inputs[1] == layout
    assert split_axes(one)[5] == 1
    if bias:
        assert one.inputs[3] == Split(0, tuple(side_by_side(ranges, 4, width) for ranges in layout.parts))
        assert [again.inputs for again in case.check(bias=one.inputs[3])] == [one.inputs]
    assert len(case.check(q=cut(ITEMS, len(shares), 0))) == int(padding != "ends")
    (by_position,) = case.check(q=cut(POSITIONS, len(shares), 1))
    assert split_axes(by_position)[4] == (1 if padding == "positions" else None)


def side_by_side(ranges: Ranges, unit: int, width: int) -> Ranges:
    """Queries, keys and values of three heads; ``ranges`` are those of the queries."""
    own = [(start // unit, stop // unit) for start, stop in ranges]
    return tidy((*ranges, *shifted(ranges, 3 * unit), *shifted(scaled(own, width), 6 * unit)))


@pytest.mark.parametrize("shares", THREE)
def test_multi_head_attention_with_a_past(shares: tuple[float, ...]) -> None:
    heads = 3
    feed = {name: floats(ITEMS, 2, heads * 4, seed=i) for i, name in enumerate("qkv")}
    feed |= {"pk": floats(ITEMS, heads, 4, 4, seed=4), "pv": floats(ITEMS, heads, 4, 4, seed=5)}
    names = ("q", "k", "v", "", "", "", "pk", "pv")
    case = Case(
        "MultiHeadAttention", feed, inputs=names, domain="com.microsoft", shares=shares, num_heads=heads, outputs=3
    )
    layout = cut(heads, len(shares), 1)
    (one,) = case.check(pk=layout)
    assert one.outputs[1:] == (layout, layout)
    assert case.choices(q=cut(2, len(shares), 1)) == []


def test_positions_that_see_only_what_is_before_them_are_not_divided() -> None:
    feed = {name: floats(ITEMS, 4, 8, seed=i) for i, name in enumerate("qkv")}
    case = Case("MultiHeadAttention", feed, domain="com.microsoft", num_heads=2, unidirectional=1)
    assert case.choices(q=cut(4, 2, 1)) == []
    assert len(case.check(q=cut(2, 2, 2, 4))) == 1


@pytest.mark.parametrize("shares", THREE)
@pytest.mark.parametrize("widths", [None, (12, 12, 15)])
@pytest.mark.parametrize("past", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_fused_attention_divides_its_weights_by_heads(
    masked: bool, past: bool, widths: tuple[int, ...] | None, shares: tuple[float, ...]
) -> None:
    if past and widths:
        return  # onnxruntime wants keys and values of one width in a past
    heads, columns = 3, sum(widths) if widths else 36
    feed = {"x": floats(ITEMS, POSITIONS, 12), "w": floats(12, columns, seed=1), "b": floats(columns, seed=2)}
    if masked:
        feed["mask"] = np.ones((ITEMS, POSITIONS + 4 * past), np.int32)
        feed["mask"][1, -1] = 0
    if past:
        feed["past"] = floats(2, ITEMS, heads, 4, 4, seed=3)
    more: dict[str, Any] = {"num_heads": heads} | ({"qkv_hidden_sizes": list(widths)} if widths else {})
    names = ("x", "w", "b", "mask" if masked else "", "past" if past else "")[: 5 if past else 4 if masked else 3]
    case = Case(
        "Attention", feed, ["w", "b"], inputs=names, domain="com.microsoft", shares=shares, outputs=1 + past, **more
    )
    (one,) = case.check()
    assert one.kind == "heads"
    assert isinstance(one.inputs[1], Split)
    assert one.inputs[1].axis == 1
    assert len(one.inputs[1].parts[0]) == 3
    assert sum(map(bool, one.outputs[0].parts)) == len(shares)  # type: ignore[union-attr]
    assert len(case.check(x=cut(ITEMS, len(shares), 0))) == 2
    assert AxisLink(("out1", 2) if past else ("out0/heads", 0), ("w", 1), inner=4, offset=12) in case.links()


@pytest.mark.parametrize("shares", THREE)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("rotary", [False, True])
def test_grouped_query_attention(rotary: bool, packed: bool, shares: tuple[float, ...]) -> None:
    queries, keys, size, past = 6, 3, 16, 4
    if packed:
        feed: dict[str, Array] = {"q": floats(ITEMS, 1, (queries + 2 * keys) * size)}
    else:
        feed = {"q": floats(ITEMS, 1, queries * size), "k": floats(ITEMS, 1, keys * size, seed=1)}
        feed["v"] = floats(ITEMS, 1, keys * size, seed=2)
    feed |= {"pk": floats(ITEMS, keys, past, size, seed=3), "pv": floats(ITEMS, keys, past, size, seed=4)}
    feed |= {"lengths": np.array([past] * ITEMS, np.int32), "total": np.array(past + 1, np.int32)}
    if rotary:
        feed |= {"cos": floats(16, size // 2, seed=5), "sin": floats(16, size // 2, seed=6)}
    apart = ("", "") if packed else ("k", "v")
    names = ("q", *apart, "pk", "pv", "lengths", "total", *(("cos", "sin") if rotary else ()))
    more: dict[str, Any] = {"num_heads": queries, "kv_num_heads": keys, "do_rotary": int(rotary)}
    case = Case("GroupQueryAttention", feed, inputs=names, domain="com.microsoft", shares=shares, outputs=3, **more)
    layout = cut(keys, len(shares), 1)
    (one,) = case.check(pk=layout)
    assert one.outputs[1:] == (layout, layout)
    assert one.outputs[0] == cut(keys, len(shares), 2, 2 * size)
    assert isinstance(one.inputs[0], Split)
    assert len(case.check(q=one.inputs[0])) == 1
    assert len(case.check(q=cut(ITEMS, len(shares), 0))) == 1
    torn = Split(2, (((0, 16),), ((16, feed["q"].shape[2]),)))
    assert case.choices(q=torn) == []
