"""How figures are written, and the small pure parts behind plots and pictures."""

from __future__ import annotations

import numpy as np
import pytest
from PySide6.QtCore import QRectF
from PySide6.QtWidgets import QApplication

from core.plan.form import CLIENT, NodeId, Plan, PlanRequest, Route, Sha256, Shard, ShardId
from core.run.report import Latency, RunReport
from core.wire.messages import ShardLoad
from gui.colours import DARK, LIGHT, node_colour, text_on
from gui.inspector import breakable
from gui.shard_words import items_per_s, shards_words
from gui.widgets import units
from gui.widgets.comparison import facts
from gui.widgets.dialogs import split_address
from gui.widgets.imbalance import imbalance
from gui.widgets.series import Ring, binary_ceiling, bit_ceiling, nice_ceiling
from gui.widgets.topology_model import Ways, line_width, place_cards, ways


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (units.quantity(None), "–"),
        (units.quantity(0), "0"),
        (units.quantity(0.01234), "0.0123"),
        (units.quantity(5.678), "5.68"),
        (units.quantity(56.78), "56.8"),
        (units.quantity(1234.5), "1\u202f234"),
        (units.nbytes(812), "812 B"),
        (units.nbytes(4.2 * 2**20), "4.2 MiB"),
        (units.nbytes(3 * 2**40), "3.00 TiB"),
        (units.bits_per_s(125_000), "1.0 Mbit/s"),
        (units.bits_per_s(125_000_000), "1.00 Gbit/s"),
        (units.seconds(85e-6), "85 µs"),
        (units.seconds(0.00234), "2.34 ms"),
        (units.seconds(0.0124), "12.4 ms"),
        (units.seconds(0.250), "250 ms"),
        (units.seconds(3.21), "3.2 s"),
        (units.seconds(125), "2 min 5 s"),
        (units.percent(0.123), "12 %"),
        (units.signed_percent(-0.034, 1), "−3.4 %"),
        (units.signed_percent(0.5), "+50 %"),
        (units.compact(1500), "1.5k"),
        (units.compact(0.5), "0.5"),
    ],
)
def test_figures_read_well(written: str, expected: str) -> None:
    assert written == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lab-pc", ("lab-pc", 7420)),
        (" 10.0.0.7:9000 ", ("10.0.0.7", 9000)),
        ("[fe80::1]:7500", ("fe80::1", 7500)),
        ("fe80::1", ("fe80::1", 7420)),
        ("", None),
        ("lab pc", None),
        ("lab:port", None),
        ("lab:0", None),
        ("lab:70000", None),
        ("[fe80::1", None),
    ],
)
def test_addresses_are_split(text: str, expected: tuple[str, int] | None) -> None:
    assert split_address(text) == expected


def test_a_ring_holds_the_newest_samples_in_order() -> None:
    ring = Ring(4)
    assert np.isnan(ring.view()).all()
    for value in range(6):
        ring.add(float(value))
    assert ring.view().tolist() == [2.0, 3.0, 4.0, 5.0]
    assert ring.view().flags.c_contiguous
    ring.clear()
    assert np.isnan(ring.view()).all()


@pytest.mark.parametrize(("value", "top"), [(0, 1), (0.9, 1), (1, 1), (1.1, 2), (4, 5), (70, 100), (1e6, 1e6)])
def test_axes_end_at_round_figures(value: float, top: float) -> None:
    assert nice_ceiling(value) == pytest.approx(top)


def test_axes_of_bytes_and_bits_end_at_round_figures() -> None:
    assert binary_ceiling(90 * 2**20) == 128 * 2**20
    assert bit_ceiling(1_000_000 / 8) * 8 == pytest.approx(1_000_000)
    assert nice_ceiling(float("nan")) == 1.0


@pytest.mark.parametrize("count", range(1, 25))
def test_cards_of_the_topology_never_overlap_and_stay_inside(count: int) -> None:
    area = QRectF(300, 8, 600, 320)
    cards = place_cards(area, count)
    assert len(cards) == count
    for i, card in enumerate(cards):
        assert area.adjusted(-0.5, -0.5, 0.5, 0.5).contains(card)
        assert not any(card.intersects(other) for other in cards[i + 1 :])


def test_links_grow_with_their_traffic() -> None:
    widths = [line_width(rate) for rate in (0, 100, 1e5, 1e6, 1e8, 1e12)]
    assert widths == sorted(widths)
    assert widths[0] == 1.5
    assert widths[-1] == 6.5


def test_many_steps_of_a_node_are_told_briefly(application: QApplication) -> None:
    def shards(*labels: str) -> list[Shard]:
        empty = Sha256("0" * 64)
        return [Shard(ShardId(i), NodeId("n"), text, 0, 0, 0, empty, 0, (), (), (), 0) for i, text in enumerate(labels)]

    assert shards_words(shards("layers 1-4", "layers 5-9")) == "layers 1-4, layers 5-9"
    assert shards_words(shards("whole model", "whole model")) == "whole model"
    assert shards_words(shards("layers 1-4", "layer 5", "layers 6-8", "exchange")) == "layers 1-4 and 3 more steps"
    loads = [ShardLoad(ShardId(i), "", 0.1, rate, 5, 5, 0.1, 0, 0) for i, rate in enumerate((100.0, 98.0, 101.0))]
    assert items_per_s(loads) == 101.0, "every item goes through all steps"
    assert items_per_s([]) == 0.0


def test_a_run_says_how_its_layers_were_divided() -> None:
    def report(request: PlanRequest) -> RunReport:
        return RunReport(
            model="m",
            strategy=request.strategy,
            items=1,
            seconds=1.0,
            throughput=1.0,
            latency_ms=Latency(1, 1, 1),
            nodes=(),
            request=request,
        )

    nodes = (NodeId("a"), NodeId("b"))
    divided = PlanRequest("tensor", nodes, 1, tensor_axis="rows", shares=(0.36, 0.64))
    told = {
        fact.name: (fact.first, fact.second) for fact in facts(report(divided), report(PlanRequest("tensor", nodes, 1)))
    }
    assert told["Axis and shares"] == ("rows; 36 : 64", "–")


def test_links_of_a_plan_join_each_pair_once() -> None:
    a, b, c = (NodeId(name) for name in "abc")
    empty = Sha256("0" * 64)
    shards = tuple(Shard(ShardId(i), node, "", 0, 0, i, empty, 0, (), (), (), 0) for i, node in enumerate((a, b, c, a)))
    ends = ((CLIENT, 0), (0, 1), (1, 0), (0, 3), (1, 2), (2, CLIENT))
    routes = tuple(Route(ShardId(one), "t", ShardId(other), "t") for one, other in ends)
    plan = Plan(empty, "m", PlanRequest("tensor", (a, b, c), 1), shards, routes)
    assert ways(plan) == Ways({a, c}, ((a, b), (b, c)))


@pytest.mark.parametrize("tokens", [DARK, LIGHT], ids=["dark", "light"])
def test_node_colours_differ_and_carry_readable_text(tokens: object) -> None:
    assert tokens in (DARK, LIGHT)
    colours = [node_colour(tokens, slot) for slot in range(16)]  # type: ignore[arg-type]
    assert len({c.name() for c in colours}) == 16
    for colour in colours:
        assert contrast(colour, text_on(colour)) >= 3.5


@pytest.mark.parametrize("tokens", [DARK, LIGHT], ids=["dark", "light"])
def test_text_has_enough_contrast(tokens: object) -> None:
    from PySide6.QtGui import QColor

    for ink in ("text", "muted", "good", "warn", "bad", "accent"):
        assert contrast(QColor(getattr(tokens, ink)), QColor(tokens.surface)) >= 4.5, ink  # type: ignore[attr-defined]


def contrast(a: object, b: object) -> float:
    """WCAG's ratio."""

    def luminance(colour: object) -> float:
        parts = [colour.redF(), colour.greenF(), colour.blueF()]  # type: ignore[attr-defined]
        linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_imbalance_names_the_busiest() -> None:
    assert imbalance({}) is None
    assert imbalance({"a": 0.0, "b": 0.01}) is None
    assert imbalance({"a": 0.8, "b": 0.8}) == (pytest.approx(0.0), "a")
    assert imbalance({"a": 0.2, "b": 0.8}) == (pytest.approx(1 - 0.5 / 0.8), "b")


def test_long_words_can_be_broken_but_stay_the_same() -> None:
    for text in ("onnxruntime 1.31.1 CPUExecutionProvider", "/work/resources/samples/digits", "0123456789abcdef" * 4):
        broken = breakable(text)
        assert broken.replace("\u200b", "") == text
        assert max(len(part) for word in broken.split(" ") for part in word.split("\u200b")) <= 20
    assert breakable("short words only") == "short words only"
