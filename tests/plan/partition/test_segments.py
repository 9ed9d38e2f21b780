"""Where axes may be divided: heads, grouped queries, fused projections, concatenations, groups of a convolution."""

from __future__ import annotations

import pytest

from core.plan.layouts import Group, Segments, split_by
from core.plan.operators.base import AxisLink
from core.plan.program import TensorType
from core.plan.segments import MOST_SEGMENTS, solve_segments

Axis = tuple[str, int]


def solved(sizes: dict[str, tuple[int, ...]], *links: AxisLink) -> dict[Axis, Segments]:
    types = {name: TensorType("float32", shape, (False,) * len(shape)) for name, shape in sizes.items()}
    found = solve_segments(links, types)
    assert found == solve_segments(reversed(links), types), "the order of the links does not matter"
    for (name, axis), segments in found.items():
        if name in sizes:
            assert sum(size for size, _ in segments) == sizes[name][axis]
        assert all(size % granule == 0 for size, granule in segments)
    return found


def test_heads_reach_back_to_the_weights() -> None:
    """x · w + bias is seen as 12 heads of 64 two operators later."""
    found = solved(
        {"w": (768, 768), "p": (1, 9, 768), "bias": (768,), "s": (1, 9, 768), "h": (1, 9, 12, 64)},
        AxisLink(("w", 1), ("p", 2)),
        AxisLink(("p", 2), ("s", 2)),
        AxisLink(("bias", 0), ("s", 2)),
        AxisLink(("h", 2), ("s", 2), inner=64),
    )
    for axis in (("w", 1), ("p", 2), ("bias", 0), ("s", 2)):
        assert found[axis] == ((768, 64),)
    assert ("h", 2) not in found  # whole heads anywhere


def test_axes_that_nothing_holds_together_are_free() -> None:
    assert solved({"a": (4, 8), "b": (4, 8)}, AxisLink(("a", 1), ("b", 1))) == {}


def test_fused_queries_keys_and_values() -> None:
    """2304 features, reshaped to (3, 12, 64)."""
    found = solved(
        {"p": (1, 9, 2304), "h": (1, 9, 3, 12, 64)},
        AxisLink(("h", 3), ("p", 2), outer=3, inner=64),
    )
    assert found["p", 2] == ((768, 64),) * 3
    split = split_by(found["p", 2], 2, Group((0.5, 0.25, 0.25)))
    assert split.parts[0] == ((0, 384), (768, 1152), (1536, 1920))


def test_a_split_puts_its_outputs_at_offsets() -> None:
    found = solved(
        {"p": (1, 1536), "q": (1, 1024), "k": (1, 256), "v": (1, 256), "heads": (1, 16, 64), "keys": (1, 4, 64)},
        AxisLink(("q", 1), ("p", 1)),
        AxisLink(("k", 1), ("p", 1), offset=1024),
        AxisLink(("v", 1), ("p", 1), offset=1280),
        AxisLink(("heads", 1), ("q", 1), inner=64),
        AxisLink(("keys", 1), ("k", 1), inner=64),
    )
    assert found["p", 1] == ((1024, 64), (256, 64), (256, 1))
    assert found["q", 1] == ((1024, 64),)
    assert found["k", 1] == ((256, 64),)


@pytest.mark.parametrize("ranks", [2, 3, 5])
def test_grouped_queries_stay_with_their_keys(ranks: int) -> None:
    """32 heads of queries for 8 of keys: query heads 4i to 4i + 3 read key head i."""
    found = solved(
        {
            "wq": (2048, 2048),
            "q": (1, 7, 2048),
            "qh": (1, 32, 7, 64),
            "wk": (2048, 512),
            "k": (1, 7, 512),
            "kh": (1, 8, 7, 64),
        },
        AxisLink(("wq", 1), ("q", 2)),
        AxisLink(("qh", 1), ("q", 2), inner=64),
        AxisLink(("wk", 1), ("k", 2)),
        AxisLink(("kh", 1), ("k", 2), inner=64),
        AxisLink(("kh", 1), ("qh", 1), inner=4),
    )
    assert found["qh", 1] == ((32, 4),)
    assert found["wq", 1] == ((2048, 256),)
    assert found["wk", 1] == ((512, 64),)
    group = Group(tuple(1 / ranks for _ in range(ranks)))
    queries = split_by(found["wq", 1], 1, group).parts
    keys = split_by(found["wk", 1], 1, group).parts
    for mine, theirs in zip(queries, keys, strict=True):
        assert [(a * 4, b * 4) for a, b in theirs] == list(mine)


def test_groups_of_a_convolution_are_a_value_that_is_not_there() -> None:
    """64 channels in, 96 out, 8 groups."""
    found = solved(
        {"x": (1, 64, 5, 5), "y": (1, 96, 5, 5), "w": (96, 8, 3, 3)},
        AxisLink(("y/groups", 0), ("x", 1), inner=8),
        AxisLink(("y/groups", 0), ("y", 1), inner=12),
        AxisLink(("y/groups", 0), ("w", 0), inner=12),
    )
    assert found["x", 1] == ((64, 8),)
    assert found["y", 1] == found["w", 0] == ((96, 12),)


def test_a_coarse_parent_makes_its_child_coarse() -> None:
    """Heads of 64 that a later operator wants in pairs."""
    found = solved(
        {"p": (1, 768), "h": (1, 12, 64), "pairs": (1, 6, 128)},
        AxisLink(("h", 1), ("p", 1), inner=64),
        AxisLink(("pairs", 1), ("p", 1), inner=128),
    )
    assert found["p", 1] == ((768, 128),)
    assert found["h", 1] == ((12, 2),)


def test_concatenated_pieces_are_each_shared_out() -> None:
    found = solved(
        {"a": (1, 32), "b": (1, 16), "c": (1, 48), "r": (1, 48)},
        AxisLink(("a", 1), ("c", 1)),
        AxisLink(("b", 1), ("c", 1), offset=32),
        AxisLink(("c", 1), ("r", 1)),
    )
    assert found["c", 1] == found["r", 1] == ((32, 1), (16, 1))


def test_too_many_pieces_are_left_alone() -> None:
    count = MOST_SEGMENTS + 1
    sizes: dict[str, tuple[int, ...]] = {f"p{i}": (1, 3) for i in range(count)} | {"c": (1, 3 * count), "d": (1, 9)}
    pieces = [AxisLink((f"p{i}", 1), ("c", 1), offset=3 * i) for i in range(count)]
    types = {name: TensorType("float32", shape, (False, False)) for name, shape in sizes.items()}
    found = solve_segments([*pieces, AxisLink(("p0", 1), ("d", 1), offset=3)], types)
    assert len(found["c", 1]) <= MOST_SEGMENTS
    assert found["d", 1] == ((3, 1), (3, 1), (3, 1))


def test_links_to_what_is_unknown_say_nothing() -> None:
    types = {"a": TensorType("float32", None), "b": TensorType("float32", (4, 6), (False, False))}
    links = [AxisLink(("a", 0), ("b", 0)), AxisLink(("b", 5), ("b", 0)), AxisLink(("b", 1), ("nobody", 0), inner=2)]
    assert solve_segments(links, types) == {}


def test_a_child_that_does_not_fit_changes_nothing() -> None:
    types = {name: TensorType("float32", (size,), (False,)) for name, size in (("h", 5), ("p", 9))}
    assert ("p", 0) not in solve_segments([AxisLink(("h", 0), ("p", 0), inner=2)], types)


def test_a_long_chain_is_solved_in_one_go() -> None:
    count = 3000
    types = {f"v{i}": TensorType("float32", (1, 768), (False, False)) for i in range(count)}
    types["h"] = TensorType("float32", (1, 12, 64), (False,) * 3)
    links = [AxisLink((f"v{i}", 1), (f"v{i + 1}", 1)) for i in range(count - 1)]
    found = solve_segments([*links, AxisLink(("h", 1), (f"v{count - 1}", 1), inner=64)], types)
    assert all(found[f"v{i}", 1] == ((768, 64),) for i in range(count))
