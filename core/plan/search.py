"""Choose how a group runs each operator: dynamic programming along the graph over the layouts of live values.

A state says how the group holds every value that is still needed. From operator to operator, the cheapest way to each
state is kept, and of the states the best few; what a choice costs is the slowest rank's work and the exchanges that
bring the inputs into the layouts it wants. Linear in the number of operators.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from core.cost.exchange import LinkCost
from core.plan.conversions import EXTERNAL, Conversions, External, State
from core.plan.layouts import REPLICATED, Group, Layout, Partial, Replicated, Segments, Split, holds
from core.plan.operators import LINKS, RULES
from core.plan.operators.base import KINDS, Choice, OpView
from core.plan.program import Op, Program
from core.plan.segments import solve_segments

MOST_STATES: Final = 16
RELUCTANCE: Final = 1000.0
"""Seconds by which it counts as slower to run an operator on every rank that could be divided, more than any exchange
takes: who asks for a division wants the model divided, and is told what that costs."""
LIGHT_BYTES: Final = 16 << 10
"""Weights that every rank may as well hold, if they and the operator's work are a small part of all: dividing them is
for speed alone."""
LIGHT_PART: Final = 0.01
"""Of the program's weights, and of its time."""


class Aim(Struct, frozen=True):
    """What a group is to divide."""

    weights: bool
    """tensor: operators with weights are divided by them."""
    kinds: frozenset[str]
    """Allowed ways to divide operators with weights; where they are not all of KINDS, light weights count too."""
    inputs: Mapping[str, tuple[Split, ...]] = {}
    """spatial, items: how inputs of the program are held from the start, as alternatives."""
    heavy: frozenset[str] = frozenset()
    """Operator types that are not to run on every rank if that can be avoided, weights or not."""
    word: str = ""
    """What the parts of ``inputs`` are, as in ``division.LayerDivision.kind``: "image rows", "items"..."""
    added_outside: frozenset[str] = frozenset()
    """Outputs that may be left as terms of a sum."""


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


class _Option(Struct, frozen=True, eq=False):
    choice: Choice | None
    cost: float
    updates: tuple[tuple[int, int], ...]
    """(position among the live values, new state)"""
    made: tuple[int, ...]
    """States of the outputs."""


class _Memory:
    """States by number, so that comparing them is cheap."""

    def __init__(self) -> None:
        self._numbers: dict[State, int] = {}
        self.states: list[State] = []

    def number(self, state: State) -> int:
        found = self._numbers.get(state)
        if found is None:
            found = self._numbers[state] = len(self.states)
            self.states.append(state)
        return found


class Problem(Struct, frozen=True, eq=False):
    """A program, and the group that is to run it."""

    program: Program
    speeds: Sequence[float]
    """Of the ranks."""
    group: Group
    seconds: Callable[[Op], float]
    """An operator's time, undivided, at speed 1."""
    aim: Aim
    link: LinkCost
    overlaps: Mapping[tuple[str, int], tuple[int, ...]]
    """By (value, axis), as ``overlaps.overlaps`` finds them."""
    opset: int
    """Of ONNX's own operators."""


def search(problem: Problem) -> Found:
    """The cheapest way found to run the program."""
    return _Search(problem).run()


class _Search:
    def __init__(self, problem: Problem) -> None:
        program, aim = problem.program, problem.aim
        self._problem = problem
        self._program = program
        self._speeds = problem.speeds
        self._group = problem.group
        self._seconds = problem.seconds
        self._aim = aim
        self._memory = _Memory()
        self._conversions = Conversions(program, len(problem.group.shares), problem.link, aim.added_outside)
        self._reads = {op: op.reads for op in program.ops}
        self._ops = [op for op in program.ops if not all(name in program.fixed for name in op.outputs if name)]
        plain = {op: self._view(op, {}, {}) for op in program.ops}
        links = [one for op, view in plain.items() if op.key in LINKS and view.known for one in LINKS[op.key](view)]
        segments = solve_segments(links, program.types)
        self._views = {op: self._view(op, segments, problem.overlaps) for op in self._ops}
        self._last_use = self._find_last_uses()
        self._given = frozenset(program.outputs)
        weights = [*program.constants, *program.fixed]
        lightest = LIGHT_PART * sum(program.types[name].nbytes for name in weights if name in program.types)
        self._light = min(LIGHT_BYTES, lightest) if aim.kinds == frozenset(KINDS) else 0.0
        self._quick = LIGHT_PART * sum(map(self._seconds, self._ops))

    def _view(
        self,
        op: Op,
        segments: Mapping[tuple[str, int], Segments],
        overlaps: Mapping[tuple[str, int], tuple[int, ...]],
    ) -> OpView:
        program = self._program
        constants, fixed = program.constants, program.fixed
        return OpView(op, program.types, constants, fixed, self._group, segments, overlaps, self._problem.opset)

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
        history: list[dict[tuple[int, ...], tuple[tuple[int, ...], _Option]]] = []
        for index, op in enumerate(self._ops):
            states, live, back = self._advance(index, op, states, live)
            history.append(back)
        key = min(states, key=lambda k: states[k] + self._ending(k, live))
        total = states[key] + self._ending(key, live)
        taken: list[_Option] = []
        for back in reversed(history):
            key, option = back[key]
            taken.append(option)
        first = [name for name in self._program.inputs if name in self._last_use]
        held = {
            name: state
            for name, number in zip(first, key, strict=True)
            if isinstance(state := self._memory.states[number], Split)
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
                    cost += self._conversions.fetched(name, state)
                key.append(self._memory.number(state))
            found[tuple(key)] = cost
        return found

    def _advance(
        self, index: int, op: Op, states: Mapping[tuple[int, ...], float], live: list[str]
    ) -> tuple[dict[tuple[int, ...], float], list[str], dict[tuple[int, ...], tuple[tuple[int, ...], _Option]]]:
        position = {name: place for place, name in enumerate(live)}
        places = [position.get(name, -1) for name in self._reads[op]]
        keep = [place for place, name in enumerate(live) if self._last_use[name] > index]
        made = [name for name in op.outputs if name and self._last_use.get(name, -1) > index]
        leaving = [place for place, name in enumerate(live) if self._last_use[name] <= index and name in self._given]
        given = [name for name in op.outputs if name in self._given and name not in made]
        following = [live[place] for place in keep] + made
        options: dict[tuple[int, ...], list[_Option]] = {}
        costs: dict[tuple[int, ...], float] = {}
        back: dict[tuple[int, ...], tuple[tuple[int, ...], _Option]] = {}
        for key, cost in states.items():
            have = tuple(key[place] if place >= 0 else -1 for place in places)
            if have not in options:
                options[have] = self._options(op, places, have, made, given)
            for option in options[have]:
                values = list(key)
                for place, state in option.updates:
                    values[place] = state
                fresh = (*[values[place] for place in keep], *option.made)
                total = cost + option.cost + sum(self._owed(live[place], values[place]) for place in leaving)
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
        return sum(self._owed(name, number) for name, number in zip(live, key, strict=True))

    def _owed(self, name: str, number: int) -> float:
        return self._conversions.owed(name, self._memory.states[number])

    # ------------------------------------------------------------ one operator

    def _options(
        self, op: Op, places: Sequence[int], have: Sequence[int], made: Sequence[str], given: Sequence[str]
    ) -> list[_Option]:
        reads, known = self._reads[op], self._memory.states
        states = dict(zip(reads, (known[n] if n >= 0 else REPLICATED for n in have), strict=True))
        place_of = dict(zip(reads, places, strict=True))
        choices = self._choices(op, states)
        found = [self._priced(op, states, place_of, made, given, choice) for choice in choices]
        penalty = RELUCTANCE if self._is_wanted_divided(op, choices) else 0.0
        found.append(self._replicated(op, states, place_of, made, penalty))
        return found

    def _is_wanted_divided(self, op: Op, choices: Iterable[Choice]) -> bool:
        if not self._aim.weights:
            return op.type in self._aim.heavy
        view = self._views[op]
        held = sum(one.nbytes for one, weight in zip(view.inputs, view.constant, strict=True) if weight and one)
        light = held < self._light and self._seconds(op) < self._quick
        return not light and any(choice.kind for choice in choices)

    def _choices(self, op: Op, states: Mapping[str, State]) -> list[Choice]:
        have = [
            None if not name else REPLICATED if isinstance(state, External) else state
            for name, state in ((name, states.get(name, REPLICATED)) for name in op.inputs)
        ]
        return [choice for choice in self._offered(op, have) if self._is_allowed(choice, have)]

    def _offered(self, op: Op, have: Sequence[Layout | None]) -> Iterable[Choice]:
        """What the operator's rule offers that can be written."""
        rule = RULES.get(op.key)
        view = self._views[op]
        if rule is None or op.captures or not view.known:
            return []
        return [choice for choice in rule(view, have) if self._can_be_written(choice, have)]

    def _can_be_written(self, choice: Choice, have: Sequence[Layout | None]) -> bool:
        for want, held in zip(choice.inputs, have, strict=True):
            if isinstance(want, Partial) and want != held:
                return False
        return not all(isinstance(layout, Replicated) for layout in choice.outputs) or self._all_take_part(choice)

    def _is_allowed(self, choice: Choice, have: Sequence[Layout | None]) -> bool:
        """Divided weights only where that is the aim, or where an input is divided so already."""
        if self._aim.weights:
            return not choice.kind or choice.kind in self._aim.kinds
        return any(
            isinstance(held, Split | Partial)
            and (want == held or (isinstance(want, Split) and isinstance(held, Split) and want.axis == held.axis))
            for want, held in zip(choice.inputs, have, strict=True)
        )

    def _all_take_part(self, choice: Choice) -> bool:
        return all(takes_part(choice, rank) for rank in self._group.ranks)

    def _priced(
        self,
        op: Op,
        states: Mapping[str, State],
        place_of: Mapping[str, int],
        made: Sequence[str],
        given: Sequence[str],
        choice: Choice,
    ) -> _Option:
        work = self._seconds(op)
        cost = max(work * share / speed for share, speed in zip(choice.shares, self._speeds, strict=True))
        updates: dict[int, int] = {}
        for name, want in zip(op.inputs, choice.inputs, strict=True):
            if not name or want is None or place_of[name] < 0:
                continue
            place = place_of[name]
            state = self._memory.states[updates[place]] if place in updates else states[name]
            more, after = self._conversions.to(want, name, state)
            cost += more
            updates[place] = self._memory.number(after)
        outputs = {name: self._memory.number(layout) for name, layout in zip(op.outputs, choice.outputs, strict=True)}
        cost += sum(self._owed(name, outputs[name]) for name in given)
        return _Option(choice, cost, tuple(updates.items()), tuple(outputs[name] for name in made))

    def _replicated(
        self,
        op: Op,
        states: Mapping[str, State],
        place_of: Mapping[str, int],
        made: Sequence[str],
        penalty: float,
    ) -> _Option:
        cost = penalty + self._seconds(op) / min(self._speeds)
        updates = []
        for name, place in place_of.items():
            if place >= 0:
                more, after = self._conversions.to(REPLICATED, name, states[name])
                cost += more
                updates.append((place, self._memory.number(after)))
        return _Option(None, cost, tuple(updates), tuple(self._memory.number(REPLICATED) for _ in made))

    # ------------------------------------------------------------ what was chosen

    def _steps(self, taken: Sequence[_Option]) -> tuple[Step, ...]:
        held: dict[str, bool] = {}
        steps = []
        for op, option in zip(self._ops, taken, strict=True):
            weights = any(self._views[op].constant)
            met = any(held.get(name, False) for name in self._reads[op])
            outputs = option.choice.outputs if option.choice is not None else (REPLICATED,) * len(op.outputs)
            for name, layout in zip(op.outputs, outputs, strict=True):
                held[name] = not isinstance(layout, Replicated)
            has_rule = op.key in RULES and self._views[op].known
            if option.choice is not None:
                steps.append(Step(op, option.choice, True, has_rule, met, weights))
                continue
            have = [REPLICATED if name else None for name in op.inputs]
            offered = list(self._offered(op, have))
            allowed = [choice for choice in offered if self._is_allowed(choice, have)]
            barred = dict.fromkeys(choice.kind for choice in offered if choice not in allowed and choice.kind)
            steps.append(Step(op, None, bool(allowed), has_rule, met, weights, tuple(barred)))
        return tuple(steps)


def takes_part(choice: Choice, rank: int) -> bool:
    """Whether a rank runs an operator: it holds something of every input and of some output."""
    wanted = all(want is None or holds(want, rank) for want in choice.inputs)
    return wanted and any(holds(layout, rank) for layout in choice.outputs)
