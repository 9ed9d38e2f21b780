"""What waits for a slow link leaves in order, at its speed, and at once when the limit is lifted."""

from __future__ import annotations

from functools import partial

import pytest

from agent.limits import Limits
from agent.link_limit import LinkPacer
from agent.outbox import Outbox


def test_nothing_waits_on_an_unlimited_link() -> None:
    sent: list[int] = []
    outbox = Outbox(LinkPacer(Limits()))
    for number in range(3):
        outbox.put(partial(sent.append, number), 10**9, 0.0)
    assert sent == [0, 1, 2]
    assert outbox.due is None


def test_messages_leave_in_order_at_the_speed_of_the_link() -> None:
    sent: list[int] = []
    outbox = Outbox(LinkPacer(Limits(link_bits_per_s=8_000_000)))  # 1 MB/s
    for number in range(4):
        outbox.put(partial(sent.append, number), 500_000, 0.0)
    times = []
    while outbox.due is not None:
        times.append(outbox.due)
        outbox.flush(outbox.due)
    assert sent == [0, 1, 2, 3]
    assert times == pytest.approx([0.5, 1.0, 1.5, 2.0], abs=0.02)


def test_lifting_the_limit_lets_everything_go_at_once() -> None:
    sent: list[int] = []
    limits = Limits(link_bits_per_s=1_000)
    outbox = Outbox(LinkPacer(limits))
    for number in range(70):
        outbox.put(partial(sent.append, number), 10**6, 0.0)
    assert outbox.full
    assert sent == []
    limits.set(link_bits_per_s=0)
    outbox.hurry(1.0)
    outbox.flush(1.0)
    assert sent == list(range(70))
    assert not outbox.full


def test_clearing_forgets() -> None:
    outbox = Outbox(LinkPacer(Limits(link_bits_per_s=1_000)))
    outbox.put(lambda: pytest.fail("was to be forgotten"), 10**6, 0.0)
    outbox.clear()
    outbox.flush(1e9)
    assert outbox.due is None
