"""A plan file on the model and the nodes that are there: the request it stands for, or what does not fit, in words."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from itertools import pairwise
from typing import Final, Protocol

from msgspec import Struct

from core.errors import PlacementError, PlanError
from core.model.graph import Model
from core.model.types import Layer
from core.plan.form import NodeId, PlanRequest
from core.plan.json_text import shown
from core.plan.pins import check_pins
from core.plan.plan_file_types import AGAIN, Mark, PlanFile

_HASH: Final = 12
"""Digits of a hash that are told."""
_MOST_NAMES: Final = 8


class Here(Protocol):
    """A node that is there."""

    @property
    def id(self) -> NodeId: ...

    @property
    def name(self) -> str: ...


class Placement(Struct, frozen=True):
    """The plan's nodes among those that are there."""

    nodes: tuple[NodeId, ...]
    renewed: tuple[str, ...] = ()
    """Names of nodes that were found by name: they have other ids than when the plan was saved."""
    instead: tuple[tuple[str, str], ...] = ()
    """(node of the plan that is not there, node that takes its place)"""

    @property
    def words(self) -> tuple[str, ...]:
        """Sentences that say what is not as it was, and what to do."""
        found = []
        if self.renewed:
            one = len(self.renewed) == 1
            new, keep = ("has a new key since the plan was saved and was", "it") if one else _NEW_KEYS
            found.append(f"{_listed(self.renewed)} {new} found by name. Save the plan again to remember {keep}.")
        if self.instead:
            missing = [one for one, _ in self.instead]
            pairs = ", ".join(f"{other} does what {one} was to do" for one, other in self.instead[:_MOST_NAMES])
            found.append(
                f"The plan's {_listed(missing)} {_are(len(missing))} not here; {pairs}. Where that is not meant, write "
                "other names into the plan, or give the nodes in another order."
            )
        return tuple(found)


_NEW_KEYS: Final = ("have new keys since the plan was saved and were", "them")


class Fit(Struct, frozen=True):
    """A plan file made a request."""

    request: PlanRequest
    placement: Placement
    notes: tuple[str, ...] = ()
    """What a person should know of the file itself; the placement has words of its own."""

    @property
    def words(self) -> tuple[str, ...]:
        return (*self.notes, *self.placement.words)


def fit_to(file: PlanFile, model: Model, nodes: Sequence[Here], name: str = "The plan") -> Fit:
    """``file``, called ``name``, as a request on ``model`` and the ``nodes`` that are there.

    PlanError when it is for another model, or its layers are not in this one; PlacementError when its nodes are not
    there and it is not clear which others are meant.
    """
    cuts, pins = fit_model(file, model, name)
    placement = fit_nodes(file, nodes, name)
    request = PlanRequest(
        strategy=file.strategy,
        nodes=placement.nodes,
        micro_batch=file.micro_batch,
        cuts=cuts,
        tensor_axis=file.tensor_axis,
        spatial_axis=file.spatial_axis,
        shares=file.shares,
        pins=tuple((layer, placement.nodes[pin.node]) for layer, pin in zip(pins, file.pins, strict=True)),
    )
    check_pins(model, request, {node.id: node.name for node in nodes})
    return Fit(request, placement, file_notes(file, model, name))


def file_notes(file: PlanFile, model: Model, name: str = "The plan") -> tuple[str, ...]:
    """What a person should know of the file, whatever its nodes."""
    notes = []
    if not _same_processing(file, model) and (file.cuts or file.pins):
        notes.append(f"{name} was saved with other pre- and postprocessing; its layers were found by their names.")
    return tuple(notes)


# ---------------------------------------------------------------- the model


def fit_model(file: PlanFile, model: Model, name: str = "The plan") -> tuple[tuple[int, ...] | None, tuple[int, ...]]:
    """Positions of the cuts, and the layers of the pins. PlanError when ``model`` is not the one, or lacks a layer."""
    if file.model.sha256 not in (model.base_sha256, model.sha256):
        raise _other_model(file, model, name)
    _check_batch(file, model, name)
    layers = model.layers(file.micro_batch)
    finder = _Layers(layers, model.name, name, by_name=not _same_processing(file, model))
    cuts = tuple(finder.find(mark, f"cuts[{index}]") for index, mark in enumerate(file.cuts or ()))
    for before, after in pairwise(cuts):
        if after <= before:
            words = f"the stage from layer {layers[before].name} to layer {layers[after].name}"
            raise PlanError(f"{name}: cuts must increase; {words} would have nothing to do.", hint="Move one of them.")
    for index, cut in enumerate(cuts):
        if not 1 <= cut < len(layers):
            raise PlanError(f"{name}: cuts[{index}] would leave the first stage nothing to do.", hint="Move the cut.")
    pins = tuple(finder.find(pin.at, f"pins[{index}]") for index, pin in enumerate(file.pins))
    return cuts if file.cuts is not None else None, pins


def _same_processing(file: PlanFile, model: Model) -> bool:
    """Whether positions mean the same."""
    return (file.model.processed_sha256 or file.model.sha256) == model.sha256


def _other_model(file: PlanFile, model: Model, name: str) -> PlanError:
    of, layers = file.model, model.layers(file.micro_batch)
    parameters = sum(layer.parameters for layer in layers)
    there = _model(of.name, of.sha256, of.layers, of.parameters)
    here = _model(model.name, model.base_sha256, len(layers), parameters)
    if of.name != model.name:
        hint = (
            f"Give {shown(of.name)} instead of {model.name}, or make a new plan: shardboard plan {model.name} --save."
        )
    elif (of.layers, of.parameters) == (len(layers), parameters):
        hint = (
            "It has as many layers and parameters, so its weights have changed. If it is the one that is meant, write "
            f'"sha256": "{model.base_sha256}" into the plan; or make a new one: shardboard plan {model.name} --save.'
        )
    else:
        hint = f"The model has changed since; make a new plan: shardboard plan {model.name} --save."
    return PlanError(f"{name} is a plan for another model: {there}, not {here}.", hint=hint)


def _model(name: str, sha256: str, layers: int | None, parameters: int | None) -> str:
    figures = [f"hash {sha256[:_HASH]}"]
    if layers is not None:
        figures.append(f"{layers} layers")
    if parameters is not None:
        figures.append(f"{parameters:,} parameters")
    return f"{shown(name)} ({', '.join(figures)})"


def _check_batch(file: PlanFile, model: Model, name: str) -> None:
    own = model.fixed_batch if model.fixed_batch is not None else None if model.batchable else 1
    if own is not None and file.micro_batch != own:
        raise PlanError(
            f"{name}: {model.name} takes {own} item{'s' if own != 1 else ''} at a time, not {file.micro_batch}.",
            hint=f'Write "micro_batch": {own}.',
        )


class _Layers:
    """The layers of a model, by position and by name."""

    def __init__(self, layers: Sequence[Layer], model: str, file: str, *, by_name: bool) -> None:
        """``by_name``: positions mean something else than in the file."""
        self._layers = layers
        self._model = model
        self._file = file
        self._by_name = by_name
        self._named: dict[str, list[int]] = {}
        for layer in layers:
            self._named.setdefault(layer.name, []).append(layer.index)

    def find(self, mark: Mark, path: str) -> int:
        """PlanError when there is no such layer, or position and name are of different ones."""
        position, count = mark.position, len(self._layers)
        if position is None or (self._by_name and mark.layer is not None):
            return self._by_its_name(mark.layer or "", path)
        if self._by_name:
            raise PlanError(
                f'{self._file}: {path} has no "layer", and the plan was saved with other pre- and postprocessing.',
                hint='Write the name of the layer with which the next stage begins as "layer".',
            )
        if position >= count:
            raise PlanError(
                f"{self._file}: {path} is at {position}, but {self._model} has {count} layers.",
                hint=f"Its cuts lie at 1 to {count - 1}.",
            )
        layer = self._layers[position]
        if mark.layer is not None and mark.layer not in (layer.name, *layer.group.split("/")):
            other = self._named.get(mark.layer)
            there = f"which is at {other[0]}" if other else f"which {self._model} does not have"
            raise PlanError(
                f"{self._file}: {path} is at {position}, where {layer.name} begins, but names {shown(mark.layer)}, "
                f"{there}.",
                hint="Take out the one that is not meant.",
            )
        return position

    def _by_its_name(self, name: str, path: str) -> int:
        """A layer, or the first one of a module."""
        found = self._named.get(name, [])
        if len(found) == 1:
            return found[0]
        if found:
            places = " and ".join(map(str, found[:2]))
            raise PlanError(
                f"{self._file}: {path} names {shown(name)}, as {len(found)} layers of {self._model} are called.",
                hint=f'Write its "position": {places}{", ..." if len(found) > 2 else ""}.',
            )
        module = next((layer.index for layer in self._layers if name in (layer.group, *layer.group.split("/"))), None)
        if module is not None:
            return module
        near = get_close_matches(name, self._named, 1)
        raise PlanError(
            f"{self._file}: {path} names {shown(name)}, but {self._model} has no such layer.",
            hint=f"Did you mean {near[0]}?" if near else AGAIN,
        )


# ---------------------------------------------------------------- the nodes


def fit_nodes(file: PlanFile, nodes: Sequence[Here], name: str = "The plan") -> Placement:
    """The plan's nodes among ``nodes``: by id, else by name, else the others where just as many are left.

    PlacementError when nodes are missing and it is not clear which others are to take their places.
    """
    free = {node.id: node.name for node in nodes}
    found: dict[int, NodeId] = {}
    for index, node in enumerate(file.nodes):
        if node.id is not None and node.id in free:
            found[index] = node.id
            del free[node.id]
    renewed = []
    open_names = [node.name for index, node in enumerate(file.nodes) if index not in found]
    for index, node in enumerate(file.nodes):
        alike = [one for one, called in free.items() if called == node.name]
        if index not in found and node.name is not None and open_names.count(node.name) == 1 and len(alike) == 1:
            found[index] = alike[0]
            del free[alike[0]]
            if node.id is not None:
                renewed.append(node.name)
    missing = [index for index in range(len(file.nodes)) if index not in found]
    if missing and len(free) != len(missing):
        raise _missing(file, missing, nodes, list(free.values()), name)
    instead = []
    for index, (one, called) in zip(missing, tuple(free.items()), strict=False):
        found[index] = one
        instead.append((shown(file.nodes[index].called), called))
    return Placement(tuple(found[index] for index in range(len(file.nodes))), tuple(renewed), tuple(instead))


def _missing(
    file: PlanFile, missing: Sequence[int], nodes: Sequence[Here], others: Sequence[str], name: str
) -> PlacementError:
    told = _listed([_told(file, index) for index in missing])
    count = len(file.nodes)
    of = f"{count} node{'s' if count != 1 else ''}"
    if len(nodes) < count:
        here = f"{len(nodes)} {_are(len(nodes))} here" if nodes else "none is here"
        return PlacementError(
            f"{name} is for {of}; {here}: {told} {_are(len(missing))} missing.",
            hint="Start what is missing (shardboard doctor says why a node is not found), or make a new plan.",
        )
    it = "it" if len(missing) == 1 else "them"
    return PlacementError(
        f"{name} is for {of}, and {told} {_are(len(missing))} not among those here. {len(others)} others could "
        f"stand in for {it}: {_listed(list(others))}.",
        hint=f"Say which: give so many nodes with --node as the plan has, or write the names into the plan in place of "
        f'{"those that are" if len(missing) > 1 else "the one that is"} missing, without "id".',
    )


def _told(file: PlanFile, index: int) -> str:
    node = file.nodes[index]
    known = node.id is not None and node.name is not None
    return f"{shown(node.called)} (id {(node.id or '')[:8]}…)" if known else shown(node.called)


def _listed(names: Sequence[str]) -> str:
    if len(names) > _MOST_NAMES:
        return f"{', '.join(names[:_MOST_NAMES])} and {len(names) - _MOST_NAMES:,} more"
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
