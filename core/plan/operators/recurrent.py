"""RNN, LSTM, GRU: directions shared out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from core.plan.layouts import Ranges
from core.plan.operators.base import AxisLink, Choice, Have, LinkRule, Local, OpView, Rule
from core.plan.operators.labels import (
    Axis,
    Division,
    Parts,
    Pattern,
    axes_of,
    choices,
    divided,
    links_of,
    outputs_of,
)

DIRECTION: Final = Axis("direction")
ITEM: Final = Axis("item")
_ACTIVATIONS: Final[Mapping[str, int]] = MappingProxyType({"RNN": 1, "GRU": 2, "LSTM": 3})
"""How many functions each direction has."""
_WITH_ALPHA: Final = frozenset(
    {"affine", "elu", "hardsigmoid", "leakyrelu", "scaledtanh", "thresholdedrelu", "parametricsoftplus"}
)
_WITH_BETA: Final = frozenset({"affine", "hardsigmoid", "scaledtanh", "parametricsoftplus"})


def _pattern(view: OpView) -> Pattern | None:
    """X, W, R, B, sequence lengths, initial states, peepholes; Y and the last states. Only time-major (layout 0)."""
    if view.number("layout", 0):
        return None  # onnxruntime has no batch-major form
    state = {0: DIRECTION, 1: ITEM}
    weight = {0: DIRECTION}
    inputs = axes_of(view, {0: {1: ITEM}, 1: weight, 2: weight, 3: weight, 4: {0: ITEM}, 5: state, 6: state, 7: weight})
    outputs = outputs_of(view, {0: {1: DIRECTION, 2: ITEM}, 1: state, 2: state})
    return Pattern(inputs, outputs, kinds={"direction": "directions"}, write=_written(view))


def _written(view: OpView) -> Callable[[Division], Callable[[Local], None]]:
    def write(division: Division) -> Callable[[Local], None]:
        def emit(local: Local) -> None:
            changed: dict[str, Any] = {}
            if division.label == "direction":
                changed = _one_direction(view, division.parts[local.rank])
            local.same(**changed)

        return emit

    return write


def _one_direction(view: OpView, own: Ranges) -> dict[str, Any]:
    """Attributes that differ where a rank runs only one of two directions."""
    if view.text("direction", "forward") != "bidirectional" or own == ((0, 2),):
        return {}
    backward = own == ((1, 2),)
    changed: dict[str, Any] = {"direction": "reverse" if backward else "forward"}
    held = view.op.attributes.get("activations")
    if held is None:
        return changed
    count = _ACTIVATIONS[view.op.type]
    names = list(held.as_strings())
    changed["activations"] = names[count:] if backward else names[:count]
    for name, users in (("activation_alpha", _WITH_ALPHA), ("activation_beta", _WITH_BETA)):
        given = view.op.attributes.get(name)
        if given is not None:  # handed out to those functions that take one, in order
            values = list(given.as_floats())
            first = sum(one.lower() in users for one in names[:count])
            changed[name] = (values[first:] if backward else values[:first]) or None
    return changed


def _rule(view: OpView, have: Have) -> list[Choice]:
    pattern = view.once(_pattern, lambda: _pattern(view)) if view.known else None
    if pattern is None:
        return []
    found = [c for c in choices(view, have, pattern) if c.kind != "directions"]
    if view.shape(1)[0] == 2 and len(view.ranks) > 1 and view.constant[1] and view.constant[2]:
        found += divided(view, pattern, "direction", _two_fastest(view))
    return found


def _two_fastest(view: OpView) -> Parts:
    """Two directions for two ranks; the others have nothing to do."""
    shares = view.group.shares
    first, second = sorted(sorted(view.ranks, key=lambda rank: -shares[rank])[:2])
    own: dict[int, Ranges] = {first: ((0, 1),), second: ((1, 2),)}
    return tuple(own.get(rank, ()) for rank in view.ranks)


def _links(view: OpView) -> list[AxisLink]:
    return list(links_of(_pattern)(view))


RULES: Final[Mapping[str, Rule]] = MappingProxyType(dict.fromkeys(_ACTIVATIONS, _rule))
LINKS: Final[Mapping[str, LinkRule]] = MappingProxyType(dict.fromkeys(_ACTIVATIONS, _links))
