from __future__ import annotations

import subprocess
import sys
import threading

import psutil
import pytest

from core.cost.kept_messages import keep_message_costs, kept_message_costs
from core.cost.messages import TYPICAL, MessageCosts
from core.errors import Cancelled
from core.run.message_costs import (
    LARGE,
    NUMBER_BYTES,
    SMALL,
    DisturbedError,
    Taken,
    agree,
    measure_message_costs,
    measured_message_costs,
    message_costs,
)


def test_they_are_worked_out_from_what_both_ends_spend() -> None:
    """A message 50 us and a byte 1 ns at each end, a run 20 us, a way 10 us, a change of threads 90 us."""
    known = MessageCosts(50e-6, 1e-9, 10e-6, 20e-6, 90e-6)

    def taken(numbers: int) -> Taken:
        ends = known.handling_seconds(2, NUMBER_BYTES * (numbers + SMALL))
        return Taken(ends, ends + known.run_s)

    small = taken(SMALL)
    alone = small.client + small.agent + 2 * known.hop_s
    found = message_costs(small, taken(LARGE), alone, small.agent + known.switch_s)
    assert found.message_s == pytest.approx(known.message_s)
    assert found.byte_s == pytest.approx(known.byte_s)
    assert found.hop_s == pytest.approx(known.hop_s)
    assert found.run_s == pytest.approx(known.run_s)
    assert found.switch_s == pytest.approx(known.switch_s)


def test_noise_gives_no_negative_costs() -> None:
    found = message_costs(Taken(1e-4, 0.5e-4), Taken(0.9e-4, 0.5e-4), 1e-5, -1e-5)
    assert min(found.message_s, found.byte_s, found.hop_s, found.run_s, found.switch_s) >= 0


def test_repeats_have_to_agree() -> None:
    assert not agree([1.1, 1.0, 5.0])
    assert agree([1.1, 1.0, 5.0, 1.2])
    assert not agree([1.1, 1.0, 1.2, 0.5]), "the least of them is what the machine can do"


def test_it_can_be_stopped_and_what_was_known_stays() -> None:
    stop = threading.Event()
    stop.set()
    before = kept_message_costs()
    with pytest.raises(Cancelled):
        measure_message_costs(cancel=stop)
    assert kept_message_costs() == before


def test_a_busy_machine_is_not_measured() -> None:
    """It is found out before anything is started."""
    command = [sys.executable, "-c", "print(flush=True)\nwhile True: pass"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        try:
            other.stdout.readline()
            before = psutil.Process().children()
            with pytest.raises(DisturbedError) as told:
                measure_message_costs()
            assert "too busy" in str(told.value)
            assert psutil.Process().children() == before
        finally:
            other.kill()


def test_this_machine_is_measured_once() -> None:
    found = measured_message_costs()
    assert 1e-6 < found.message_s < 0.1
    assert 1e-11 < found.byte_s < 1e-6
    disturbed = found == TYPICAL  # by whatever else runs here
    assert kept_message_costs() == (None if disturbed else found)
    assert disturbed or measured_message_costs() == found
    other = MessageCosts(message_s=1.0)
    keep_message_costs(other)
    assert measured_message_costs() == other
    keep_message_costs(found)
