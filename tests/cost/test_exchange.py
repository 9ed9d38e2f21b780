from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.cost.exchange import (
    LEAST_RING,
    LinkCost,
    all_gather_seconds,
    all_reduce_seconds,
    all_to_all_seconds,
    cheapest_all_reduce,
    fetch_seconds,
    halo_seconds,
    is_added_outside,
    reduce_scatter_seconds,
)

LINK = LinkCost(message_s=1.0, byte_s=0.01, hop_s=0.5)
"""Round figures."""
EVERY = (all_gather_seconds, all_reduce_seconds, reduce_scatter_seconds, all_to_all_seconds)

sizes = st.integers(1, 1 << 24)
groups = st.integers(2, 16)
links = st.builds(
    LinkCost,
    message_s=st.floats(0, 1e-3),
    byte_s=st.floats(1e-11, 1e-7),
    hop_s=st.floats(1e-6, 1e-3),
)


class TestByHand:
    def test_a_rank_sends_and_receives_its_part_with_every_other(self) -> None:
        assert all_gather_seconds(400, 4, LINK) == pytest.approx(0.5 + 6 * (1 + 100 * 0.01))
        assert reduce_scatter_seconds(400, 4, LINK) == pytest.approx(0.5 + 6 * (1 + 100 * 0.01))
        assert all_to_all_seconds(400, 4, LINK) == pytest.approx(0.5 + 6 * (1 + 25 * 0.01))

    def test_two_ranks_add_up_by_exchanging_their_terms(self) -> None:
        assert all_reduce_seconds(400, 2, LINK) == pytest.approx(0.5 + 2 * (1 + 4))

    def test_a_large_sum_is_scattered(self) -> None:
        whole, part = 1 << 20, (1 << 20) / 4
        assert cheapest_all_reduce(whole, 4, LINK) == "scatter"
        assert all_reduce_seconds(whole, 4, LINK) == pytest.approx(2 * (0.5 + 6 * (1 + part * 0.01)))

    def test_a_small_sum_goes_directly(self) -> None:
        assert cheapest_all_reduce(100, 4, LINK) == "direct"
        assert all_reduce_seconds(100, 4, LINK) == pytest.approx(0.5 + 6 * (1 + 1))

    def test_halves_of_a_group_on_two_switches_form_a_ring(self) -> None:
        shared = LinkCost(message_s=1.0, byte_s=0.01, hop_s=0.5, trunk_byte_s=0.2)
        assert cheapest_all_reduce(1 << 20, 8, LINK) == "scatter"
        assert cheapest_all_reduce(1 << 20, 8, shared) == "ring"
        assert all_reduce_seconds(1 << 20, 8, shared) == pytest.approx(14 * (0.5 + (1 << 17) * 0.2))
        assert cheapest_all_reduce(1 << 20, 3, shared) == "scatter"
        assert cheapest_all_reduce(4, 8, shared) == "direct"

    def test_neighbours(self) -> None:
        assert halo_seconds(100, LINK) == pytest.approx(0.5 + 2 * (2 + 1))
        assert halo_seconds(100, LINK, neighbours=1) == pytest.approx(0.5 + 2 * (1 + 1))
        assert fetch_seconds(100, LINK) == pytest.approx(0.5 + 2 * (1 + 1))


@pytest.mark.parametrize("ranks", [0, 1])
def test_a_group_of_one_exchanges_nothing(ranks: int) -> None:
    assert [cost(1000, ranks) for cost in EVERY] == [0.0] * 4


def test_nothing_costs_nothing() -> None:
    assert [cost(0, 4) for cost in EVERY] == [0.0] * 4
    assert fetch_seconds(0) == halo_seconds(0) == halo_seconds(100, neighbours=0) == 0.0


def test_measured_costs_are_the_default() -> None:
    """24 all-reduces of 393 KB, as in BERT-base, over loopback: about 20 ms in all, and never under what bytes cost."""
    assert 24 * 2 * 0.75e-9 * 393_216 < 24 * all_reduce_seconds(393_216, 2) < 0.025


@given(sizes, groups, links)
@settings(max_examples=60, derandomize=True)
def test_no_way_is_cheaper_than_the_cheapest(nbytes: int, ranks: int, link: LinkCost) -> None:
    found = all_reduce_seconds(nbytes, ranks, link)
    scatter = reduce_scatter_seconds(nbytes, ranks, link) + all_gather_seconds(nbytes, ranks, link)
    direct = link.hop_s + 2 * (ranks - 1) * (link.message_s + nbytes * link.byte_s)
    assert found == pytest.approx(min(scatter, direct))
    assert cheapest_all_reduce(nbytes, ranks, link) != "ring"  # every rank has its own way to every other
    if ranks == 2:
        assert cheapest_all_reduce(nbytes, ranks, link) == "direct"


@given(sizes, st.integers(2, LEAST_RING - 1), st.floats(0, 1e-5))
@settings(max_examples=30, derandomize=True)
def test_three_never_form_a_ring(nbytes: int, ranks: int, trunk: float) -> None:
    assert cheapest_all_reduce(nbytes, ranks, LinkCost(trunk_byte_s=trunk)) != "ring"


@given(sizes, sizes, groups, links)
@settings(max_examples=60, derandomize=True)
def test_more_bytes_never_cost_less(one: int, other: int, ranks: int, link: LinkCost) -> None:
    small, large = sorted((one, other))
    for cost in EVERY:
        assert cost(small, ranks, link) <= cost(large, ranks, link) * (1 + 1e-12)
    assert halo_seconds(small, link) <= halo_seconds(large, link)
    assert fetch_seconds(small, link) <= fetch_seconds(large, link)


@given(sizes, groups, links, st.floats(0.1, 1.0))
@settings(max_examples=60, derandomize=True)
def test_a_faster_link_never_costs_more(nbytes: int, ranks: int, link: LinkCost, factor: float) -> None:
    faster = LinkCost(link.message_s, link.byte_s * factor, link.hop_s * factor)
    for cost in EVERY:
        assert cost(nbytes, ranks, faster) <= cost(nbytes, ranks, link) * (1 + 1e-12)


def test_the_client_adds_up_where_that_spares_more_than_it_takes() -> None:
    assert is_added_outside(16 << 10, 2)
    assert is_added_outside(16 << 10, 3)
    assert not is_added_outside(16 << 10, 8)
    slow = LinkCost(wire_byte_s=1e-7)
    assert is_added_outside(1 << 20, 2, slow), "two terms take their line as long as a term and a sum take theirs"
    assert not is_added_outside(1 << 20, 3, slow)
