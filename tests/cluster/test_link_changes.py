"""What counts as another link than the one that was measured, and how that is said."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from core.cluster.link_changes import LinkChange, change_of, changed_words, most_suspect, size_to_send
from core.cluster.measured import Bound, MeasuredLink
from core.cost.links import WORKSTATION
from core.plan.form import NodeId
from core.wire.messages import LinkProbed, LinkSample
from core.wire.probing import SIZES

A, B, C = (NodeId(name) for name in "abc")
SAMPLES = tuple(LinkSample(size, rate) for size, rate in zip(SIZES, (4e6, 9e6, 11e6, *[12e6] * 5), strict=True))
LINE = MeasuredLink(
    when=1.0, round_trip_s=0.4e-3, way_s=0.1e-3, samples=SAMPLES, bytes_per_s=12e6, bound="line",
    ends=(("", 0), ("10.0.0.1", 0)),
)  # fmt: skip


def now(share: float = 1.0, round_trip_s: float = 0.4e-3, size: int = SIZES[3]) -> LinkProbed:
    (rate,) = (sample.bytes_per_s for sample in SAMPLES if sample.nbytes == size)
    return LinkProbed(round_trip_s, (LinkSample(size, share * rate),))


def test_a_look_is_at_messages_that_take_a_moment() -> None:
    assert size_to_send(LINE) == 64 * 1024  # 5 ms of 12 MB/s
    assert size_to_send(replace(LINE, bytes_per_s=12e3)) == 1024
    assert size_to_send(replace(LINE, bytes_per_s=1e12)) == SIZES[-1]


@pytest.mark.parametrize(
    ("bound", "share", "kind"),
    [
        ("line", 0.75, None),
        ("line", 0.6, "slower"),
        ("line", 1.4, None),
        ("line", 2.0, "faster"),
        ("processors", 0.5, None),  # how busy they are shows
        ("processors", 0.3, "slower"),
        ("processors", 9.0, None),
        ("limit", 0.1, None),  # the node itself tells its limit
    ],
)
def test_other_rates_are_told_from_noise(bound: Bound, share: float, kind: str | None) -> None:
    for size in SIZES:
        change = change_of((WORKSTATION, A), replace(LINE, bound=bound), now(share, size=size))
        if kind != "faster" or size >= SIZES[3]:  # small messages are never as fast as the stream
            assert (change is not None) == (kind is not None)
        if change is not None and size >= SIZES[3]:
            (words,) = changed_words(A, change, lambda _node: "this workstation")
            assert words == (
                f"has a {kind} link: {96 * share:.1f} Mbit/s between it and this workstation now, "
                "96.0 Mbit/s when that was measured"
            ).replace("192.0", "192")


@pytest.mark.parametrize(
    ("before_ms", "now_ms", "kind"),
    [(0.4, 1.3, None), (0.4, 10, "longer"), (10, 14, None), (10, 25, "longer"), (10, 1, "shorter")],
)
def test_other_round_trips_are_told_from_noise(before_ms: float, now_ms: float, kind: str | None) -> None:
    change = change_of((A, B), replace(LINE, round_trip_s=before_ms / 1e3), now(round_trip_s=now_ms / 1e3))
    assert (change is not None) == (kind is not None)
    if change is not None:
        (words,) = changed_words(B, change, str)
        assert f"has a {kind} way: {now_ms} ms there and back between it and a now, {before_ms} ms when" in words


def test_a_node_whose_links_all_changed_is_named_by_the_one_with_the_workstation() -> None:
    pairs = [(A, C), (B, C), (WORKSTATION, C), (C, WORKSTATION), (B, A)]
    node, change = most_suspect([LinkChange(pair, LINE, 1e6) for pair in pairs]) or (None, None)
    assert node == C
    assert change is not None
    assert change.pair == (WORKSTATION, C)
    assert most_suspect([]) is None
