"""Choose how a group runs each operator: dynamic programming along the graph over the layouts of live values.

A state says how the group holds every value that is still needed. From operator to operator, the cheapest way to each
state is kept, and of the states the best few (``op_options`` tells what a step costs). Linear in the number of
operators.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from core.plan.conversions import EXTERNAL, State
from core.plan.layouts import REPLICATED, Replicated, Split
from core.plan.op_options import Option, Options, Problem
from core.plan.operators.base import Choice
from core.plan.program import Op

MOST_STATES: Final = 16


class Step(Struct, frozen=True, eq=False):
    """What was chosen for one operator."""

    op: Op
    choice: Choice | None
    """None: every rank runs all of it."""
    possible: bool
    """Some choice but the replicated one was there."""
    had_rule: bool
    met_divided: bool
    """An input was not replicated before."""
    has_weights: bool = False
    barred: tuple[str, ...] = ()
    """Ways to divide it that the aim does not allow; only told of operators that every rank runs."""


class Found(Struct, frozen=True, eq=False):
    steps: tuple[Step, ...]
    inputs: Mapping[str, Split]
    """Of ``Aim.inputs``, the alternatives that were taken."""
    seconds: float
    """The slowest rank's, exchanges included, and ``RELUCTANCE`` for each operator that it is felt about."""


def search(problem: Problem) -> Found:
    """The cheapest way found to run the program."""
    return _Search(problem).run()


class _Search:
    def __init__(self, problem: Problem) -> None:
        program = problem.program
        self._program = program
        self._aim = problem.aim
        self._reads = {op: op.reads for op in program.ops}
        self._ops = [op for op in program.ops if not all(name in program.fixed for name in op.outputs if name)]
        self._options = Options(problem, self._reads, self._ops)
        self._numbers = self._options.numbers
        self._last_use = self._find_last_uses()
        self._given = frozenset(program.outputs)

    def _find_last_uses(self) -> dict[str, int]:
        last: dict[str, int] = {}
        for index, op in enumerate(self._ops):
            last.update(dict.fromkeys(self._reads[op], index))
        return last

    # ------------------------------------------------------------ forward, and back

    def run(self) -> Found:
        live = [name for name in self._program.inputs if name in self._last_use]
        starts = self._starts(live)
        states: dict[tuple[int, ...], float] = dict(starts)
        history: list[dict[tuple[int, ...], tuple[tuple[int, ...], Option]]] = []
        for index, op in enumerate(self._ops):
            states, live, back = self._advance(index, op, states, live)
            history.append(back)
        key = min(states, key=lambda k: states[k] + self._ending(k, live))
        total = states[key] + self._ending(key, live)
        taken: list[Option] = []
        for back in reversed(history):
            key, option = back[key]
            taken.append(option)
        first = [name for name in self._program.inputs if name in self._last_use]
        held = {
            name: state
            for name, number in zip(first, key, strict=True)
            if isinstance(state := self._numbers.states[number], Split)
        }
        steps = self._steps(list(reversed(taken)))
        return Found(steps, held, total)

    def _starts(self, live: Sequence[str]) -> dict[tuple[int, ...], float]:
        """All inputs are to be fetched, or held in one of the ways that the aim names (the same for all of them)."""
        ways = max((len(ways) for ways in self._aim.inputs.values()), default=1)
        found = {}
        for way in range(ways):
            cost = 0.0
            key = []
            for name in live:
                given = self._aim.inputs.get(name)
                state: State = EXTERNAL if not given else given[min(way, len(given) - 1)]
                if isinstance(state, Split):
                    cost += self._options.fetched(name, state)
                key.append(self._numbers.number(state))
            found[tuple(key)] = cost
        return found

    def _advance(
        self, index: int, op: Op, states: Mapping[tuple[int, ...], float], live: list[str]
    ) -> tuple[dict[tuple[int, ...], float], list[str], dict[tuple[int, ...], tuple[tuple[int, ...], Option]]]:
        position = {name: place for place, name in enumerate(live)}
        places = [position.get(name, -1) for name in self._reads[op]]
        keep = [place for place, name in enumerate(live) if self._last_use[name] > index]
        made = [name for name in op.outputs if name and self._last_use.get(name, -1) > index]
        leaving = [place for place, name in enumerate(live) if self._last_use[name] <= index and name in self._given]
        given = [name for name in op.outputs if name in self._given and name not in made]
        following = [live[place] for place in keep] + made
        options: dict[tuple[int, ...], list[Option]] = {}
        costs: dict[tuple[int, ...], float] = {}
        back: dict[tuple[int, ...], tuple[tuple[int, ...], Option]] = {}
        for key, cost in states.items():
            have = tuple(key[place] if place >= 0 else -1 for place in places)
            if have not in options:
                options[have] = self._options.of(op, places, have, made, given)
            for option in options[have]:
                values = list(key)
                for place, state in option.updates:
                    values[place] = state
                fresh = (*[values[place] for place in keep], *option.made)
                total = cost + option.cost + sum(self._options.owed(live[place], values[place]) for place in leaving)
                if total < costs.get(fresh, float("inf")):
                    costs[fresh] = total
                    back[fresh] = (key, option)
        if len(costs) > MOST_STATES:
            kept = sorted(costs, key=lambda k: costs[k] + self._ending(k, following))[:MOST_STATES]
            costs = {k: costs[k] for k in kept}
            back = {k: back[k] for k in kept}
        return costs, following, back

    def _ending(self, key: Sequence[int], live: Sequence[str]) -> float:
        """What must come yet, at least: terms will have to be added up."""
        return sum(self._options.owed(name, number) for name, number in zip(live, key, strict=True))

    # ------------------------------------------------------------ what was chosen

    def _steps(self, taken: Sequence[Option]) -> tuple[Step, ...]:
        held: dict[str, bool] = {}
        steps = []
        for op, option in zip(self._ops, taken, strict=True):
            weights, has_rule = self._options.has_weights(op), self._options.has_rule(op)
            met = any(held.get(name, False) for name in self._reads[op])
            outputs = option.choice.outputs if option.choice is not None else (REPLICATED,) * len(op.outputs)
            for name, layout in zip(op.outputs, outputs, strict=True):
                held[name] = not isinstance(layout, Replicated)
            if option.choice is not None:
                steps.append(Step(op, option.choice, True, has_rule, met, weights))
                continue
            offered, allowed = self._options.from_whole(op)
            barred = dict.fromkeys(choice.kind for choice in offered if choice not in allowed and choice.kind)
            steps.append(Step(op, None, bool(allowed), has_rule, met, weights, tuple(barred)))
        return tuple(steps)
