"""Who holds the node, as time passes."""

from __future__ import annotations

from agent.leases import LONGEST_INTERVAL, SHORTEST_INTERVAL, SILENCE, Leases, Reservation


def held(leases: Leases, sender: bytes = b"1", user: str = "lab", deployment: str = "d") -> None:
    leases.reserve(Reservation(deployment, user, sender, user, 100))


def test_a_living_owner_keeps_others_out_until_it_is_silent() -> None:
    leases = Leases()
    leases.heard(b"1", "lab", 0.0)
    leases.heard(b"2", "desk", 5.0)
    assert leases.conflict(b"2", "desk", "mine") is None
    held(leases)
    conflict = leases.conflict(b"2", "desk", "mine")
    assert conflict is not None
    assert conflict.name == "lab"
    leases.expire(SILENCE - 0.1)
    assert leases.alive() == conflict
    leases.expire(SILENCE)
    assert leases.alive() is None
    assert leases.conflict(b"2", "desk", "mine") is None
    assert leases.owns("lab", "d")
    held(leases, b"2", "desk", "mine")
    assert not leases.owns("lab", "d")


def test_the_same_program_and_the_same_deployment_may_go_on() -> None:
    leases = Leases()
    first, again, second = b"program1.a", b"program1.b", b"program2.a"
    leases.heard(first, "lab", 0.0)
    held(leases, first)
    assert leases.conflict(first, "lab", "another") is None
    leases.heard(second, "lab", 1.0)
    assert leases.conflict(second, "lab", "d") is None
    assert leases.conflict(second, "lab", "another") is not None
    leases.heard(again, "lab", 1.0)
    leases.forget(first)
    assert leases.holders() == (again,)
    assert leases.conflict(again, "lab", "another") is None
    assert leases.conflict(second, "lab", "another") is not None


def test_a_living_program_of_the_same_workstation_keeps_nothing_for_one_that_is_gone() -> None:
    leases = Leases()
    leases.heard(b"program1.a", "lab", 0.0)
    held(leases, b"program1.a")
    leases.heard(b"program2.a", "lab", SILENCE)
    leases.heard(b"program1.b", "thief", SILENCE)  # programs name themselves: only with the owner's key does it count
    leases.expire(SILENCE)
    assert leases.alive() is None
    assert leases.conflict(b"program2.a", "lab", "another") is None


def test_telemetry_is_due_at_each_ones_own_pace() -> None:
    leases = Leases()
    assert leases.next_due() is None
    leases.heard(b"1", "lab", 0.0)
    leases.subscribe(b"1", 0.2, 0.0)
    leases.subscribe(b"2", 1.0, 0.0)
    assert leases.next_due() == 0.2
    assert leases.due(0.1) == []
    assert leases.due(0.25) == [b"1"]
    assert leases.due(0.3) == []
    assert sorted(leases.due(1.0)) == [b"1", b"2"]
    leases.expire(SILENCE)
    assert leases.due(100.0) == [b"2"]
    assert leases.watched
    leases.forget(b"2")
    assert not leases.watched


def test_intervals_are_kept_within_reason() -> None:
    leases = Leases()
    leases.subscribe(b"1", -5.0, 0.0)
    assert leases.next_due() == SHORTEST_INTERVAL
    leases.subscribe(b"1", 1e9, 0.0)
    assert leases.next_due() == LONGEST_INTERVAL
    leases.subscribe(b"1", float("nan"), 0.0)
    assert leases.next_due() == SHORTEST_INTERVAL
