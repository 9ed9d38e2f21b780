"""What a change of a plan is called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from core.model.types import Layer
from core.plan.auto_types import Question
from core.plan.form import PlanRequest
from core.plan.strategy_text import SINGLE

FEW: Final = 4
"""So many nodes are named one by one."""


def strategy_words(question: Question, old: PlanRequest, new: PlanRequest) -> str:
    """What to do to come from one plan to another that differs in more than one thing."""
    names = [question.names.get(node, node[:8]) for node in new.nodes]
    if new.strategy == SINGLE:
        return f"Use {names[0]} alone"
    if new.strategy == old.strategy and set(new.nodes) == set(old.nodes) and new.nodes != old.nodes:
        return f"Put the nodes in the order {', '.join(names)}"
    if new.strategy == old.strategy and new.nodes == old.nodes:
        return "Let the planner place the cuts" if new.cuts != old.cuts else "Let the planner choose the rest"
    if len(names) == len(question.nodes):
        return f"Use {new.strategy} on all {len(names)} nodes"
    several = f"{', '.join(names[:-1])} and {names[-1]}" if len(names) <= FEW else f"{len(names)} of the nodes"
    return f"Use {new.strategy} on {several}"


def layer_words(layers: Sequence[Layer], place: int) -> str:
    """What begins there: a module where its name says which, else a layer."""
    before, own = layers[place - 1].group.split("/") if place else [], layers[place].group.split("/")
    for index, part in enumerate(own):
        if part and before[: index + 1] != own[: index + 1]:
            inside = own[: index + 1]
            homes = {tuple(path[: path.index(part) + 1]) for path in (layer.group.split("/") for layer in layers)
                     if part in path}  # fmt: skip
            return part if homes == {tuple(inside)} else layers[place].name
    return layers[place].name
