from __future__ import annotations

import pytest

from core.commands.shares import fractions, parse_shares
from core.errors import PlanError
from core.plan.strategy_text import parse_strategy


def test_per_cent_of_each_group_become_fractions() -> None:
    assert parse_shares("60,40") == (60.0, 40.0)
    assert parse_shares(" 60% , 40 %") == (60.0, 40.0)
    assert fractions((60, 40), parse_strategy("tensor", 2)) == (0.6, 0.4)
    assert fractions((70, 30, 50, 50), parse_strategy("replicate(2) > tensor(2)", 4)) == (0.7, 0.3, 0.5, 0.5)
    assert fractions((10, 20, 30, 40), parse_strategy("tensor(2) > spatial(2)", 4)) == (0.1, 0.2, 0.3, 0.4)


def test_rounded_shares_are_a_whole() -> None:
    found = fractions(parse_shares("33.3,33.3,33.3"), parse_strategy("spatial", 3))
    assert found == pytest.approx((1 / 3, 1 / 3, 1 / 3), abs=1e-9)
    assert sum(found) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "A share is missing in ''"),
        ("60,,40", "A share is missing in '60,,40'"),
        ("60,forty", "'forty' in '60,forty' is not a number"),
        ("60;40", "is not a number"),
        ("110,-10", "more than 0 per cent, not -10"),
        ("100,0", "more than 0 per cent, not 0"),
        ("nan,50", "more than 0 per cent, not nan"),
        ("inf,50", "more than 0 per cent, not inf"),
    ],
)
def test_what_is_no_share_is_named(text: str, words: str) -> None:
    with pytest.raises(PlanError) as caught:
        parse_shares(text)
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("shares", "strategy", "nodes", "words"),
    [
        ((60, 30), "tensor", 2, "The shares add up to 90, not 100. Shares are per cent."),
        ((0.6, 0.4), "tensor", 2, "The shares add up to 1, not 100. Shares are per cent, not fractions."),
        ((60, 40), "tensor", 3, "tensor runs on 3 nodes; 2 shares are given."),
        ((100,), "spatial", 2, "spatial runs on 2 nodes; 1 share is given."),
        ((25, 25, 25, 25), "pipeline(2) > tensor(2)", 4, "The shares of a and b add up to 50, not 100."),
        ((50, 50, 60, 60), "pipeline(2) > tensor(2)", 4, "The shares of c and d add up to 120, not 100."),
    ],
)
def test_what_does_not_add_up_is_told_with_the_sum(
    shares: tuple[float, ...], strategy: str, nodes: int, words: str
) -> None:
    with pytest.raises(PlanError) as caught:
        fractions(shares, parse_strategy(strategy, nodes), "abcd"[:nodes])
    assert words in str(caught.value)
