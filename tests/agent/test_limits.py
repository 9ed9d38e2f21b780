"""Limits and the link pacer: pure, on a clock of the test's."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.failures import AgentFailureError
from agent.limits import Limits
from agent.link_limit import BURST_SECONDS, LinkPacer

RATES = st.integers(1_000, 10**10)
MESSAGES = st.lists(
    st.tuples(st.integers(0, 10**7), st.one_of(st.just(0.0), st.floats(0, 0.5, allow_nan=False))),
    min_size=1,
    max_size=60,
)
"""(bytes, seconds since the previous message)"""


@given(st.floats(0.01, 1.0), st.floats(0, 1000))
def test_running_is_the_given_share_of_the_whole(cpu: float, seconds: float) -> None:
    rest = Limits(cpu).rest_after(seconds)
    assert rest >= 0
    assert seconds == pytest.approx(cpu * (seconds + rest))


def test_no_rest_without_a_limit() -> None:
    assert Limits().rest_after(3.0) == 0.0
    assert Limits(0.5).rest_after(-1.0) == 0.0


@pytest.mark.parametrize("cpu", [0.0, -0.5, 1.01, 0.009, math.nan, math.inf])
def test_a_senseless_cpu_limit_is_refused_by_name(cpu: float) -> None:
    with pytest.raises(AgentFailureError, match="cpu_limit") as caught:
        Limits(cpu)
    assert caught.value.code == "field"


@pytest.mark.parametrize("link", [-1, 1, 999])
def test_a_senseless_link_limit_is_refused_and_changes_nothing(link: int) -> None:
    limits = Limits(0.5, 10**6)
    with pytest.raises(AgentFailureError, match="link_limit"):
        limits.set(cpu=0.25, link_bits_per_s=link)
    assert (limits.cpu, limits.link_bits_per_s) == (0.5, 10**6)


def test_none_leaves_a_limit_as_it_is() -> None:
    limits = Limits(0.5, 10**6)
    limits.set(cpu=0.25)
    limits.set(link_bits_per_s=0)
    limits.set()
    assert (limits.cpu, limits.link_bits_per_s) == (0.25, 0)


@given(MESSAGES)
def test_nothing_waits_on_an_unlimited_link(messages: list[tuple[int, float]]) -> None:
    pacer, now = LinkPacer(Limits()), 0.0
    for nbytes, gap in messages:
        now += gap
        assert pacer.delay(nbytes, now) == now
    assert pacer.backlog(now) == 0


@given(RATES, MESSAGES)
def test_never_faster_than_the_limit_over_any_window(bits: int, messages: list[tuple[int, float]]) -> None:
    dues, now, rate = [], 0.0, bits / 8
    pacer = LinkPacer(Limits(link_bits_per_s=bits))
    for nbytes, gap in messages:
        now += gap
        due = pacer.delay(nbytes, now)
        assert due >= now
        dues.append((due, nbytes))
    assert dues == sorted(dues, key=lambda entry: entry[0]), "dues never run backwards"
    for first in range(len(dues)):
        total = 0
        for last in range(first, len(dues)):
            total += dues[last][1]
            window = dues[last][0] - dues[first][0]
            # The first message's own bytes crossed before it was due, so they do not count in the window.
            allowed = rate * window + max(BURST_SECONDS * rate, dues[first][1])
            assert total <= allowed * (1 + 1e-9) + 1e-3


@given(RATES, st.lists(st.integers(1, 10**7), min_size=1, max_size=40))
def test_a_busy_link_is_used_to_the_full(bits: int, sizes: list[int]) -> None:
    pacer = LinkPacer(Limits(link_bits_per_s=bits))
    due = [pacer.delay(nbytes, 5.0) for nbytes in sizes][-1]
    assert due == pytest.approx(max(5.0, 5.0 + sum(sizes) / (bits / 8) - BURST_SECONDS))


def test_idle_time_is_not_saved_up() -> None:
    pacer = LinkPacer(Limits(link_bits_per_s=8_000_000))
    pacer.delay(1_000_000, 0.0)
    assert pacer.delay(1_000_000, 100.0) == pytest.approx(101.0 - BURST_SECONDS)


def test_small_messages_on_a_quiet_link_need_no_timer() -> None:
    pacer = LinkPacer(Limits(link_bits_per_s=100_000_000))
    assert all(pacer.delay(1500, second) == second for second in (0.0, 0.1, 0.2))


def test_a_new_limit_applies_to_what_is_on_its_way() -> None:
    limits = Limits(link_bits_per_s=8_000_000)
    pacer = LinkPacer(limits)
    pacer.delay(1_000_000, 0.0)
    assert pacer.backlog(0.5) == pytest.approx(0.5)
    limits.set(link_bits_per_s=80_000_000)
    assert pacer.delay(500_000, 0.5) == pytest.approx(0.5 + 0.05 + 0.05 - BURST_SECONDS)
    limits.set(link_bits_per_s=0)
    assert pacer.delay(10**9, 0.5) == 0.5
    limits.set(link_bits_per_s=8_000_000)
    assert pacer.delay(100_000, 0.5) == pytest.approx(0.6 - BURST_SECONDS), "nothing is owed for the unlimited time"
