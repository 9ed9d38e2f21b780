"""How a group may run one operator, and what each way costs: the slowest rank's work, and the exchanges that bring the
inputs into the layouts that it wants."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from core.cost.exchange import LinkCost
from core.cost.moving import BYTE_SECONDS
from core.plan.conversions import Conversions, External, State
from core.plan.layouts import REPLICATED, Group, Layout, Partial, Replicated, Segments, Split, holds
from core.plan.operators import LINKS, RULES
from core.plan.operators.base import KINDS, Choice, OpView
from core.plan.program import Op, Program
from core.plan.segments import solve_segments

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
    moving_s: float = BYTE_SECONDS
    """As in ``Profile``."""


class Option(Struct, frozen=True, eq=False):
    """One way to run it."""

    choice: Choice | None
    cost: float
    updates: tuple[tuple[int, int], ...]
    """(position among the live values, new state)"""
    made: tuple[int, ...]
    """States of the outputs."""


class Numbers:
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


class Options:
    """For the operators of one problem. ``reads``: the values that each of them reads."""

    def __init__(self, problem: Problem, reads: Mapping[Op, Sequence[str]], ops: Iterable[Op]) -> None:
        program, aim = problem.program, problem.aim
        self.numbers = Numbers()
        self._problem = problem
        self._speeds = problem.speeds
        self._group = problem.group
        self._seconds = problem.seconds
        self._aim = aim
        self._reads = reads
        self._conversions = Conversions(
            program, len(problem.group.shares), problem.link, aim.added_outside, problem.moving_s
        )
        plain = {op: self._view(op, {}, {}) for op in program.ops}
        links = [one for op, view in plain.items() if op.key in LINKS and view.known for one in LINKS[op.key](view)]
        segments = solve_segments(links, program.types)
        self._views = {op: self._view(op, segments, problem.overlaps) for op in ops}
        weights = [*program.constants, *program.fixed]
        lightest = LIGHT_PART * sum(program.types[name].nbytes for name in weights if name in program.types)
        self._light = min(LIGHT_BYTES, lightest) if aim.kinds == frozenset(KINDS) else 0.0
        self._quick = LIGHT_PART * sum(map(self._seconds, self._views))

    def fetched(self, name: str, want: Split) -> float:
        """Seconds until all ranks have their parts of an input."""
        return self._conversions.fetched(name, want)

    def owed(self, name: str, number: int) -> float:
        """What must come yet, at least, for a value that is held so: terms will have to be added up."""
        return self._conversions.owed(name, self.numbers.states[number])

    def has_rule(self, op: Op) -> bool:
        return op.key in RULES and self._views[op].known

    def has_weights(self, op: Op) -> bool:
        return any(self._views[op].constant)

    def from_whole(self, op: Op) -> tuple[list[Choice], list[Choice]]:
        """Choices where every rank has the inputs, and those of them that the aim allows."""
        have = [REPLICATED if name else None for name in op.inputs]
        offered = list(self._offered(op, have))
        return offered, [choice for choice in offered if self._is_allowed(choice, have)]

    def of(
        self, op: Op, places: Sequence[int], have: Sequence[int], made: Sequence[str], given: Sequence[str]
    ) -> list[Option]:
        reads, known = self._reads[op], self.numbers.states
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
    ) -> Option:
        work = self._seconds(op)
        cost = max(work * share / speed for share, speed in zip(choice.shares, self._speeds, strict=True))
        updates: dict[int, int] = {}
        for name, want in zip(op.inputs, choice.inputs, strict=True):
            if not name or want is None or place_of[name] < 0:
                continue
            place = place_of[name]
            state = self.numbers.states[updates[place]] if place in updates else states[name]
            more, after = self._conversions.to(want, name, state)
            cost += more
            updates[place] = self.numbers.number(after)
        outputs = {name: self.numbers.number(layout) for name, layout in zip(op.outputs, choice.outputs, strict=True)}
        cost += sum(self.owed(name, outputs[name]) for name in given)
        return Option(choice, cost, tuple(updates.items()), tuple(outputs[name] for name in made))

    def _replicated(
        self,
        op: Op,
        states: Mapping[str, State],
        place_of: Mapping[str, int],
        made: Sequence[str],
        penalty: float,
    ) -> Option:
        cost = penalty + self._seconds(op) / min(self._speeds)
        updates = []
        for name, place in place_of.items():
            if place >= 0:
                more, after = self._conversions.to(REPLICATED, name, states[name])
                cost += more
                updates.append((place, self.numbers.number(after)))
        return Option(None, cost, tuple(updates), tuple(self.numbers.number(REPLICATED) for _ in made))

    def _view(
        self,
        op: Op,
        segments: Mapping[tuple[str, int], Segments],
        overlaps: Mapping[tuple[str, int], tuple[int, ...]],
    ) -> OpView:
        program = self._problem.program
        constants, fixed = program.constants, program.fixed
        return OpView(op, program.types, constants, fixed, self._group, segments, overlaps, self._problem.opset)


def takes_part(choice: Choice, rank: int) -> bool:
    """Whether a rank runs an operator: it holds something of every input and of some output."""
    wanted = all(want is None or holds(want, rank) for want in choice.inputs)
    return wanted and any(holds(layout, rank) for layout in choice.outputs)
