"""Why a plan is the best, or why none fits: in words, from what else was weighed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from math import inf
from types import MappingProxyType
from typing import Final

from msgspec.structs import replace

from core.cost.links import OUT_OF_WORKSTATION, UNKNOWN, WORKSTATION, Line, Way, Ways
from core.cost.predict import is_predicted, predict
from core.cost.types import Prediction
from core.plan.auto_types import Candidate, Question, badness_of, family
from core.plan.form import NodeId, PlanRequest
from core.plan.misses import MOST_NAMES, lacking_words
from core.plan.strategy_text import REPLICATE, SINGLE
from core.units import format_bytes, format_pace

ORDINALS: Final = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
NEAR_EQUAL: Final = 0.02
"""One node more is spoken of rather than several where that is worse by no more than this."""
NOTHING: Final = 0.005
"""A difference smaller than this share is none."""
_EXPLAINS: Final = 0.5
"""A cause is named when without it this part of the loss would be gone."""


Times = Mapping[PlanRequest, Prediction]
"""Predictions of the plans whose shards were timed."""
_UNTIMED: Final[Times] = MappingProxyType({})


def reasons(question: Question, best: Candidate, found: Sequence[Candidate], timed: Times = _UNTIMED) -> str:
    """One or two sentences: how much of the cluster is used, what that brings, and why not more of it.

    ``best`` and ``found`` are told by sums over layers; what was ``timed`` is told by that where it is compared with
    what was timed, too.
    """
    count, used = len(question.nodes), best.request.nodes
    if count == 1:
        return f"{_name(question, used[0])} is the only node."
    alone = best_alone(question, found)
    if len(used) == count:
        brings = (
            f": {_against(question, *_alike(best, alone, timed), best.memory_bytes, alone.memory_bytes)}"
            if alone is not None
            else ", as layers are kept on nodes"
            if question.pins
            else ", as no fewer have the memory for it"
        )
        return f"All {count} nodes, {best.request.strategy}{brings}."
    if best.request.strategy == SINGLE:
        head = f"One node alone is best, {_name(question, used[0])}"
    else:
        head = f"{len(used)} of {count} nodes, {best.request.strategy}"
    return f"{head}: {_left_out(question, best, found, timed)}."


def reordered(question: Question, first: PlanRequest, best: PlanRequest, timed: Times) -> str:
    """A sentence on a plan that comes first by sums and not by what its shards take. Both were timed."""
    one, other = timed[first], timed[best]
    head = f"Sums over layers put {first.strategy} on {nodes_words(question, first.nodes)} first; timed, it"
    bound = question.latency_bound_s
    if bound is not None and one.latency_s > bound:
        return f"{head} takes {_ms(one)}, longer than asked for."
    if question.objective == "latency":
        return f"{head} takes {_ms(one)}, and this {_ms(other)}."
    return f"{head} does {format_pace(one.throughput)} items/s, and this {format_pace(other.throughput)}."


def _alike(one: Candidate, other: Candidate, timed: Times) -> tuple[Prediction, Prediction]:
    """By what their shards take where both were timed, else both by sums."""
    if one.request in timed and other.request in timed:
        return timed[one.request], timed[other.request]
    return one.prediction, other.prediction


def _against(question: Question, one: Prediction, other: Prediction, memory: int, memory_alone: int) -> str:
    match question.objective:
        case "latency":
            return f"{_ms(one)} a micro-batch, against {_ms(other)} on the best node alone"
        case "memory":
            return f"{format_bytes(memory)} at most, against {format_bytes(memory_alone)} on one alone"
        case "throughput":
            return f"{one.throughput / other.throughput:.2f} times what the best node does alone"


def best_alone(question: Question, found: Sequence[Candidate]) -> Candidate | None:
    """Of the nodes that have the memory for the whole model."""
    alone = [one for one in found if one.request.strategy == SINGLE and not one.lacking]
    return min(alone, key=lambda one: badness_of(one.prediction, question.objective), default=None)


def _left_out(question: Question, best: Candidate, found: Sequence[Candidate], timed: Times) -> str:
    def worse(one: Candidate, other: Candidate) -> float:
        """By which share the second is."""
        return _loss(question, *_alike(one, other, timed))

    used = set(best.request.nodes)
    more = [one for one in found if used < set(one.request.nodes)]
    fitting = [one for one in more if not one.lacking]
    if question.objective == "latency":  # replicas answer no sooner, and only that is asked
        fitting = [one for one in fitting if not one.request.strategy.startswith(REPLICATE)] or fitting
    if not fitting:
        if more:
            one = min(more, key=lambda one: sum(one.lacking.values()))
            node, nbytes = max(one.lacking.items(), key=lambda item: item[1])
            lacks = f"{_name(question, node)} lacks {format_bytes(nbytes)}"
            return f"more would not fit, {lacks} for {one.request.strategy}"
        return "nothing that was tried makes use of more"
    if timed:
        known = {family(request) for request in timed}
        told = [one for one in fitting if one.request in timed or family(one.request) not in known]
        # a plan that was not timed is not said to be better by its estimate
        fitting = [one for one in told or fitting if one.request in timed or worse(best, one) >= 0]
    if not fitting:
        return "nothing that was timed makes better use of more"
    nearest = min(fitting, key=lambda one: worse(best, one))
    one_more = [one for one in fitting if len(one.request.nodes) == len(used) + 1]
    other = min(one_more, key=lambda one: worse(best, one), default=nearest)
    if worse(best, other) - worse(best, nearest) > NEAR_EQUAL:
        other = nearest
    added = [node for node in other.request.nodes if node not in used]
    ordinal = ORDINALS[len(used)] if len(used) < len(ORDINALS) else f"{len(used) + 1}th"
    which = f"the {ordinal}" if len(added) == 1 else f"{len(added)} more"
    names = ", ".join(_name(question, node) for node in added[:MOST_NAMES])
    names += ", ..." if len(added) > MOST_NAMES else ""
    if other.request.strategy.partition("(")[0] != best.request.strategy.partition("(")[0]:
        names += f" ({other.request.strategy})"
    loss = worse(best, other)
    bound = question.latency_bound_s
    if bound is not None and _alike(best, other, timed)[1].latency_s > bound:
        return f"{which}, {names}, would miss the latency asked for"
    if loss < NOTHING:
        return f"{which}, {names}, would bring nothing {_because(question, best, other, added)}".rstrip()
    by_sums = _loss(question, best.prediction, other.prediction)
    cost = "take" if question.objective == "latency" else "cost" if question.objective == "throughput" else "need"
    longer = {"latency": " longer", "memory": " more memory"}.get(question.objective, "")
    cause = _because(question, best, other, added) if by_sums >= _EXPLAINS * loss else "by what its shards take"
    return f"{which}, {names}, would {cost} {100 * loss:.0f} %{longer} {cause}".rstrip()


def _because(question: Question, best: Candidate, other: Candidate, added: Sequence[NodeId]) -> str:
    """The first cause without which most of the loss would be gone."""
    reached, goal = badness_of(other.prediction, question.objective), badness_of(best.prediction, question.objective)
    if not is_predicted(other.request.strategy):
        return "because of what its nodes would have to tell each other" if reached - goal > NOTHING * abs(goal) else ""
    gap = max(reached - goal, 2 * NOTHING * abs(goal))

    def explains(**changed: object) -> bool:
        known = {"speeds": question.speeds, "machines": question.machines, "links": question.links} | changed

        def changed_badness(one: Candidate) -> float:
            if not is_predicted(one.request.strategy):
                return badness_of(one.prediction, question.objective)
            recut = replace(one.request, cuts=None)
            return badness_of(predict(question.profile, question.model, recut, **known), question.objective)  # type: ignore[arg-type]

        return reached - goal - (changed_badness(other) - changed_badness(best)) >= _EXPLAINS * gap

    line = _workstations(question, other.request.nodes)
    if line is not None and explains(links=replace(question.links, lines=(*question.links.lines, line[0]))):
        return f"because of the workstation's {_bandwidth(line[1])} link"
    unlimited = {node: replace(machine, link_limit=0) for node, machine in question.machines.items()}
    if explains(links=UNKNOWN, machines=unlimited):
        return f"because of {_link(question, added, other.request.nodes)}"
    fastest = max(question.speeds.get(node, 1.0) for node in best.request.nodes)
    slowest = min(question.speeds.get(node, 1.0) for node in added)
    if slowest < fastest and explains(speeds=dict(question.speeds) | dict.fromkeys(added, fastest)):
        return f"because {'it has' if len(added) == 1 else 'they have'} {100 * slowest / fastest:.0f} % of the speed"
    if question.machines and explains(machines={}):
        shared = next((question.machines[node] for node in added if node in question.machines), None)
        return f"because its nodes share the {shared.cores} cores of {shared.name}" if shared else "for want of cores"
    return "because messages take longer than it saves" if reached - goal > NOTHING * abs(goal) else ""


def _workstations(question: Question, nodes: Sequence[NodeId]) -> tuple[Line, float] | None:
    """Its own line as if that had no limit, and its limit; None where there is none."""
    here = [node for node in question.nodes if node in question.machines and question.machines[node].here]
    ways = Ways(question.links, question.nodes, question.machines)
    crossed = {name: byte_s for node in nodes for name, byte_s in ways.way(WORKSTATION, node).lines}
    own = [byte_s for name, byte_s in crossed.items() if name == OUT_OF_WORKSTATION]
    return (Line((WORKSTATION, *here), inf), 1 / own[0]) if own else None


def _link(question: Question, added: Sequence[NodeId], nodes: Sequence[NodeId]) -> str:
    """The slowest between the nodes added and the others, or the workstation."""
    ways = Ways(question.links, question.nodes, question.machines)
    before = [node for node in nodes if node not in added]

    def slowest(these: Sequence[NodeId], others: Sequence[NodeId]) -> Way:
        ends = [(one, other) for one, other in product(these, others) if one != other]
        every = [ways.way(*pair) for one, other in ends for pair in ((one, other), (other, one))]
        return max(every, key=lambda way: way.hop_s + _TYPICAL * way.byte_s)

    way, usual = slowest(added, (*before, WORKSTATION)), slowest(before, (*before, WORKSTATION))
    whose = "its" if len(added) == 1 else "their"
    if (way.hop_s, way.byte_s) == (usual.hop_s, usual.byte_s):
        whose = "the workstation's"
    if way.byte_s * _TYPICAL >= way.hop_s:
        return f"{whose} {_bandwidth(1 / way.byte_s)} link"
    return f"{whose} round trip of {2000 * way.hop_s:.3g} ms"


_TYPICAL: Final = 16384
"""Bytes; a link is called by its bandwidth where a message of this size feels that more than the round trip."""


def _bandwidth(bytes_per_s: float) -> str:
    mbit = bytes_per_s * 8e-6
    return f"{mbit / 1000:.3g} Gbit/s" if mbit >= 1000 else f"{mbit:.3g} Mbit/s"


def missed(question: Question, found: Sequence[Candidate], smaller: Candidate | None) -> tuple[str, str]:
    """Nothing fits: which limit is missed by how much on which node; and what would fit."""
    nearest = min(found, key=lambda one: (sum(one.lacking.values()), len(one.request.nodes)))
    worst = sorted(nearest.lacking.items(), key=lambda item: -item[1])
    told = lacking_words(nearest.prediction, question.limits, question.names)
    others = len(worst) - MOST_NAMES
    where = f"{nearest.request.strategy} on {len(nearest.request.nodes)} of {len(question.nodes)} nodes"
    message = f"{question.model.name} fits in no way. Nearest to it comes {where}: {told}."
    if smaller is not None:
        strategy = smaller.request.strategy
        on = _name(question, smaller.request.nodes[0]) if strategy == SINGLE else f"{len(smaller.request.nodes)} nodes"
        return message, f"With micro-batches of {smaller.request.micro_batch} it fits: {strategy} on {on}."
    if others > 0:
        most = format_bytes(worst[0][1])
        return (
            message,
            f"With the memory limits of {len(worst)} nodes higher, by {most} at most, {where} fits. Or add a node.",
        )
    names = " and ".join(f"of {_name(question, node)} by {format_bytes(size)}" for node, size in worst)
    return message, f"With the memory limit {names} higher, {where} fits. Or add a node."


def too_slow(question: Question, fitting: Sequence[Candidate], smaller: Sequence[Candidate]) -> tuple[str, str]:
    """No plan that fits answers in time: how long the quickest takes, and what to do. ``smaller``: plans that fit, with
    micro-batches of one item."""
    bound = question.latency_bound_s or 0.0
    quickest = min(fitting, key=lambda one: one.prediction.latency_s)
    message = (
        f"No plan answers within {1000 * bound:.3g} ms: the quickest, {quickest.request.strategy} on "
        f"{nodes_words(question, quickest.request.nodes)}, takes {_ms(quickest.prediction)}."
    )
    if not smaller:
        return message, "Allow as much, or use faster nodes."
    best = min(smaller, key=lambda one: one.prediction.latency_s)
    if best.prediction.latency_s <= bound:
        where = f"{best.request.strategy} on {nodes_words(question, best.request.nodes)}"
        return message, f"With micro-batches of 1 item it is done: {where} takes {_ms(best.prediction)}."
    return message, f"Even micro-batches of 1 item take {_ms(best.prediction)}. Allow more, or use faster nodes."


def nodes_words(question: Question, nodes: Sequence[NodeId]) -> str:
    """Their names; of many, how many they are."""
    names = [_name(question, node) for node in nodes]
    if len(names) > MOST_NAMES:
        return f"{len(names)} nodes"
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]


def _loss(question: Question, best: Prediction, other: Prediction) -> float:
    """By which share it is worse."""
    one, worse = badness_of(best, question.objective), badness_of(other, question.objective)
    return (worse - one) / abs(one) if one else inf


def _ms(told: Prediction) -> str:
    return f"{1000 * told.latency_s:.3g} ms"


def _name(question: Question, node: NodeId) -> str:
    return question.names.get(node, node[:8])
