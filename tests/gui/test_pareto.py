"""The scatter of plans: what nothing beats, scales, and a widget that is played with mouse and keys."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PySide6.QtCore import QPoint, Qt
from PySide6.QtWidgets import QApplication, QToolTip
from pytestqt.qtbot import QtBot

from core.plan.form import NodeId, PlanRequest
from gui.widgets.pareto import ParetoPlot
from gui.widgets.pareto_model import MOST_TICKS, Scale, Spot, front, nearest, scale_for, stepped, unit_of

FIGURES = st.tuples(st.integers(1, 9), st.integers(1, 9), st.booleans())
"""Throughput, latency, fits; few different values, so that many are equal."""


def spot(throughput: float, latency_s: float, *, fits: bool = True, name: str = "single") -> Spot:
    request = PlanRequest(name, (NodeId(f"{throughput}/{latency_s}"),), 1)
    return Spot(request, throughput, latency_s, fits, name, f"{throughput} items/s")


@given(st.lists(FIGURES, max_size=12))
@settings(derandomize=True, deadline=None, max_examples=80)
def test_nothing_beats_the_front_and_something_beats_all_else(figures: list[tuple[int, int, bool]]) -> None:
    spots = [spot(rate, latency, fits=fits) for rate, latency, fits in figures]
    found = front(spots)

    def beaten(one: Spot) -> bool:
        return any(
            other.fits
            and other.throughput >= one.throughput
            and other.latency_s <= one.latency_s
            and (other.throughput, other.latency_s) != (one.throughput, one.latency_s)
            for other in spots
        )

    assert all(spots[index].fits and not beaten(spots[index]) for index in found)
    on_it = {(spots[index].throughput, spots[index].latency_s) for index in found}
    left = [one for one in spots if one.fits and (one.throughput, one.latency_s) not in on_it]
    assert all(beaten(one) for one in left)
    latencies = [spots[index].latency_s for index in found]
    assert latencies == sorted(latencies)


def test_what_does_not_fit_is_on_no_front() -> None:
    spots = [spot(10, 0.2), spot(99, 0.1, fits=False), spot(20, 0.4), spot(20, 0.4)]
    assert front(spots) == (0, 2)


@given(st.lists(st.floats(1e-4, 1e6), min_size=1, max_size=8))
@settings(derandomize=True, deadline=None, max_examples=80)
def test_a_scale_holds_all_values_in_order_and_has_few_ticks(values: list[float]) -> None:
    scale = scale_for(values)
    places = [scale.at(value) for value in sorted(values)]
    assert places == sorted(places)
    assert 0 <= places[0] <= places[-1] <= 1
    ticks = scale.ticks()
    assert 1 <= len(ticks) <= MOST_TICKS + 2
    assert all(-1e-9 <= scale.at(tick) <= 1 + 1e-9 for tick in ticks)
    assert len(set(ticks)) == len(ticks)


def test_far_apart_values_get_a_logarithmic_scale_with_round_ticks() -> None:
    scale = scale_for([0.001, 1.0])
    assert scale.log
    assert scale.ticks() == pytest.approx((0.001, 0.01, 0.1, 1.0))
    assert scale_for([40.0, 45.0]).ticks() == (40.0, 42.0, 44.0)
    assert scale_for([]) == Scale(0, 1)
    assert unit_of([0.3]) == ("ms", 1e3)
    assert unit_of([3.0]) == ("s", 1.0)


def test_the_nearest_spot_is_taken_and_steps_stop_at_the_ends() -> None:
    points = [(10.0, 10.0), (14.0, 10.0), (14.0, 10.0)]
    assert nearest(points, 13.0, 10.0) == 1
    assert nearest(points, 60.0, 10.0) == -1
    assert nearest([], 0, 0) == -1
    assert [stepped([3.0, 1.0, 2.0], now, 1) for now in (-1, 1, 2, 0)] == [1, 2, 0, 0]
    assert stepped([3.0, 1.0, 2.0], 1, -1) == 1
    assert stepped([], -1, 1) == -1


@pytest.fixture
def plot(qtbot: QtBot, application: QApplication) -> ParetoPlot:
    """Three plans that nothing beats, one that is beaten, one that does not fit."""
    made = ParetoPlot()
    qtbot.addWidget(made)
    made.resize(320, 260)
    made.show()
    made.show_spots(
        [spot(40, 0.9), spot(30, 0.5), spot(10, 0.2), spot(12, 0.8), spot(60, 0.1, fits=False)], 0, bound_s=0.6
    )
    made.show_chosen((0.5, 30.0))
    made.grab()
    return made


def test_the_mouse_points_and_a_click_chooses(qtbot: QtBot, plot: ParetoPlot) -> None:
    qtbot.mouseMove(plot, plot.place_of(3))
    assert plot.pointed == 3
    assert "12 items/s" in plot.accessibleDescription()
    assert "12 items/s" in QToolTip.text()
    with qtbot.waitSignal(plot.picked) as picked:
        qtbot.mouseClick(plot, Qt.MouseButton.LeftButton, pos=plot.place_of(4) + QPoint(2, -2))
    assert picked.args == [plot.spots[4].request]
    with qtbot.assertNotEmitted(plot.picked):
        qtbot.mouseClick(plot, Qt.MouseButton.LeftButton, pos=plot.rect().bottomRight())
    qtbot.mouseMove(plot, plot.rect().bottomRight())
    assert plot.pointed == -1


def test_keys_walk_from_plan_to_plan_and_return_chooses(qtbot: QtBot, plot: ParetoPlot) -> None:
    plot.setFocus()
    assert plot.pointed == 0, "the automatic plan comes first"
    walked = []
    for key in (Qt.Key.Key_Left, Qt.Key.Key_Left, Qt.Key.Key_Up, Qt.Key.Key_Home, Qt.Key.Key_End, Qt.Key.Key_Right):
        qtbot.keyClick(plot, key)
        walked.append(plot.pointed)
    assert walked == [3, 1, 0, 2, 0, 0]
    with qtbot.waitSignal(plot.picked) as picked:
        qtbot.keyClick(plot, Qt.Key.Key_Return)
    assert picked.args == [plot.spots[0].request]


def test_another_set_of_plans_keeps_what_is_pointed_at_if_it_is_still_there(qtbot: QtBot, plot: ParetoPlot) -> None:
    plot.setFocus()
    qtbot.keyClick(plot, Qt.Key.Key_Home)
    pointed = plot.spots[plot.pointed]
    plot.show_spots([spot(99, 0.01), pointed])
    assert plot.spots[plot.pointed] == pointed
    plot.show_spots([spot(99, 0.01)])
    assert plot.pointed == -1
    plot.show_spots([])
    plot.show_chosen(None)
    plot.show_note("Nothing is known yet.")
    assert plot.front == ()
    assert plot.focusPolicy() == Qt.FocusPolicy.NoFocus
    plot.grab()
