"""The slow work behind the bridge: plain functions without Qt, each called on a worker thread.

What needs onnx or onnxruntime is imported where it is used, on the worker: the window is there a second earlier.
"""
# ruff: noqa: PLC0415

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from msgspec import Struct, structs

from core.cost.links import UNKNOWN, Links
from core.errors import VerificationError
from core.plan.form import NodeId, PlanRequest
from core.run.report import Predicted, RunProgress, RunReport
from core.wire.messages import SetLimits

if TYPE_CHECKING:
    from core.cluster.client import Cluster
    from core.cluster.deployment import Deployment, DeployProgress
    from core.cluster.events import ClusterEvent
    from core.cluster.local import LocalAgents
    from core.cluster.measuring import Outcome
    from core.cluster.node import Node
    from core.commands.comparison import BenchReport, BenchRow, Refusal
    from core.commands.findings import Finding
    from core.cost.benchmark import Mix
    from core.cost.messages import MessageCosts
    from core.cost.profile_marks import ProfileMark
    from core.cost.types import Prediction, Profile
    from core.model.graph import Model
    from core.model.library import LibraryEntry
    from core.model.processing import Processing
    from core.model.types import Layer
    from core.plan.auto import Choice, Objective
    from core.plan.compile import CompiledPlan
    from core.plan.division import Division
    from core.plan.improving import Change
    from core.plan.plan_fit import Fit
    from core.plan.verify import Verification
    from core.run.calibration import Calibration
    from gui.improvements import Asked

ANSWER_SECONDS: Final = 10.0
LOOK_SECONDS: Final = 3.0
RESULTS_PER_SECOND: Final = 10.0
RESULTS_AT_ONCE: Final = 48
DEFAULT_MICRO_BATCH: Final = 8


class ClusterCall(Protocol):
    """Work that needs the cluster."""

    def __call__(self, cluster: Cluster, /) -> object: ...


# ---------------------------------------------------------------- cluster


def open_cluster(
    addresses: Sequence[tuple[str, int]], on_event: Callable[[ClusterEvent], None], *, measure: bool
) -> Cluster:
    from core.cluster.opening import open_cluster as open_core_cluster

    return open_core_cluster(addresses=addresses, discovery=True, on_event=on_event, measure=measure)


def measure(
    cluster: Cluster, nodes: Sequence[NodeId], progress: Callable[[float, str], None], cancel: threading.Event
) -> Outcome:
    """Everything about ``nodes`` and their links, whatever is known. Raises Cancelled."""
    return cluster.measure(nodes, anew=True, progress=progress, cancel=cancel)


def add_address(host: str, port: int, cluster: Cluster, /) -> None:
    cluster.add_address(host, port).result(ANSWER_SECONDS)


def pair(host: str, pairing_port: int, code: str, cluster: Cluster, /) -> None:
    cluster.pair(host, pairing_port, code).result(ANSWER_SECONDS)


def set_limits(node: NodeId, cpu_limit: float | None, link_limit: int | None, cluster: Cluster, /) -> None:
    cluster.request(node, SetLimits(cpu_limit, link_limit)).result(ANSWER_SECONDS)


def measure_speeds(cluster: Cluster, nodes: Sequence[NodeId]) -> dict[NodeId, float]:
    return dict(cluster.measure_speeds(nodes))


def kept_message_costs() -> MessageCosts:
    """Of this machine as they were measured; typical ones till then."""
    from core.cost.kept_messages import kept_message_costs
    from core.cost.messages import TYPICAL

    return kept_message_costs() or TYPICAL


def start_local(count: int, first: int, cpu_limits: Sequence[float] | None) -> LocalAgents:
    """Start ``count`` agents on this machine; ``first`` is how many there are already.

    They are announced, as agents on other machines are; where multicast does not work ``make_known`` helps.
    """
    from core.cluster.local import start_local_agents

    names = [f"local-{first + index + 1}" for index in range(count)]
    return start_local_agents(count, cpu_limits=cpu_limits, announce=True, names=names)


def make_known(cluster: Cluster, agents: LocalAgents) -> None:
    """Tell the cluster where they are, in their order; does not wait."""
    for agent in agents.agents:
        cluster.add_known(
            agent.id, agent.host, agent.control_port, "local", pairing_port=agent.pairing_port, name=agent.name
        )


# ---------------------------------------------------------------- model


class Opened(NamedTuple):
    base: Model
    """As in the file."""
    model: Model
    """With its pre- and postprocessing."""
    entry: LibraryEntry | None
    processing: Processing


def open_model(text: str, progress: Callable[[float], None]) -> Opened:
    from core.model.library import remember_model, resolve_model
    from core.model.processing import default_processing, load_processing

    base, entry = resolve_model(text, progress)
    if entry is None and base.path is not None:
        remember_model(base.path)
    remembered = load_processing(base.sha256)
    processing = remembered or (entry.processing if entry else default_processing(base))
    return process_model(base, entry, processing, remember=False)


def process_model(base: Model, entry: LibraryEntry | None, processing: Processing, *, remember: bool) -> Opened:
    from core.model.processing import apply_processing, save_processing

    model = apply_processing(base, processing)
    if remember:
        save_processing(base.sha256, processing)
    model.layers(default_micro_batch(model))
    return Opened(base, model, entry, processing)


def default_micro_batch(model: Model) -> int:
    if not model.batchable:
        return 1
    return model.fixed_batch or DEFAULT_MICRO_BATCH


class Timed(NamedTuple):
    profile: Profile
    mix: Mix
    """What the model's time is made up of."""


def profile_model(model: Model, batch: int, progress: Callable[[float], None], cancel: threading.Event) -> Timed:
    from core.cost.mix import mix_of
    from core.cost.profile import profile_model as core_profile
    from core.cost.profile_marks import marked

    with marked(model, batch) as marker:

        def reached(share: float) -> None:
            marker.reached(share)
            progress(share)

        profile = core_profile(model, batch, threads=1, progress=reached, cancel=cancel)
    return Timed(profile, mix_of(model, profile))


def interrupted_profile(model: Model, batch: int) -> ProfileMark | None:
    from core.cost.profile_marks import interrupted

    return interrupted(model, batch)


def predict(
    profile: Profile,
    model: Model,
    request: PlanRequest,
    speeds: Mapping[NodeId, float],
    nodes: Sequence[Node],
    links: Links = UNKNOWN,
) -> Prediction:
    from core.cluster.machines import machines_of
    from core.cost.predict import predict as core_predict

    return core_predict(profile, model, request, speeds, machines_of(nodes), links)


class Outlined(NamedTuple):
    division: Division
    prediction: Prediction
    notes: tuple[str, ...]


def outline(
    model: Model,
    profile: Profile,
    request: PlanRequest,
    speeds: Mapping[NodeId, float],
    nodes: Sequence[Node],
    links: Links = UNKNOWN,
) -> Outlined:
    """How ``request`` divides the model and what it would reach. PlanError where the model cannot be divided so."""
    from core.cluster.machines import machines_of
    from core.cost.dataflow import predict_outline
    from core.plan.compile import outline_plan

    machines = machines_of(nodes)
    found = outline_plan(model, request, profile=profile, speeds=speeds, machines=machines, links=links)
    return Outlined(found.division, predict_outline(profile, found, model, speeds, machines, links), found.notes)


def balanced_cuts(
    profile: Profile,
    model: Model,
    speeds: Mapping[NodeId, float],
    nodes: Sequence[Node],
    links: Links = UNKNOWN,
    pins: Sequence[tuple[int, NodeId]] = (),
) -> tuple[int, ...]:
    """For a pipeline over the nodes of ``speeds``, in their order, with each layer of ``pins`` on its node."""
    from core.cluster.machines import machines_of
    from core.cost.predict import balanced_cuts as core_balanced_cuts

    order = list(speeds)
    machines = machines_of(nodes)
    return core_balanced_cuts(
        profile, model, list(speeds.values()), nodes=order, links=links, machines=machines, pins=pins
    )


def place_cut(
    profile: Profile,
    model: Model,
    request: PlanRequest,
    index: int,
    speeds: Mapping[NodeId, float],
    nodes: Sequence[Node],
    links: Links = UNKNOWN,
) -> tuple[int, ...]:
    """The cuts of ``request`` with one of them put where it is best."""
    from core.cluster.machines import machines_of
    from core.cost.one_cut import place_cut as core_place_cut

    return core_place_cut(profile, model, request, index, speeds, machines_of(nodes), links)


class SearchOrder(NamedTuple):
    """What the best plan is to be found for."""

    model: Model
    profile: Profile
    candidates: Sequence[NodeId]
    """Nodes that may take part."""
    speeds: Mapping[NodeId, float]
    links: Links
    limits: Mapping[NodeId, int]
    """Bytes that an agent may take; a node without one has room for anything."""
    objective: Objective
    latency_bound_s: float | None
    micro_batch: int
    nodes: Sequence[Node]
    pins: Sequence[tuple[int, NodeId]] = ()
    """(layer, node); only pipelines keep them."""


def search(order: SearchOrder, progress: Callable[[float], None], cancel: threading.Event) -> Choice:
    """The best plan and all that were weighed. Raises DoesNotFitError, PlanError or Cancelled, as ``best_plan``."""
    from core.cluster.machines import machines_of
    from core.plan.auto import best_plan

    return best_plan(
        order.model,
        order.profile,
        order.candidates,
        order.speeds,
        machines_of(order.nodes),
        order.links,
        order.limits,
        order.objective,
        latency_bound_s=order.latency_bound_s,
        micro_batch=order.micro_batch,
        names={node.id: node.name for node in order.nodes},
        pins=order.pins,
        progress=progress,
        cancel=cancel,
    )


# ---------------------------------------------------------------- plan files


def load_plan(path: Path, model: Model, nodes: Sequence[Node]) -> Fit:
    """The file's plan on ``model`` and ``nodes``. Raises InputError, PlanError or PlacementError, in words."""
    from core.plan.plan_disk import read_plan_file
    from core.plan.plan_fit import fit_to

    return fit_to(read_plan_file(path), model, nodes, path.name)


def save_plan(
    path: Path,
    model: Model,
    request: PlanRequest,
    names: Mapping[NodeId, str],
    prediction: Prediction | None,
    now: float,
) -> None:
    """``now``: Unix time. Raises SinkError."""
    from core.plan.plan_disk import write_plan_file
    from core.plan.plan_file import plan_file_of

    write_plan_file(path, plan_file_of(model, request, names, prediction, now))


def improve(asked: Asked, cancel: threading.Event) -> tuple[Change, ...]:
    """The best change of a plan, and another strategy where that brings more. Raises PlanError or Cancelled."""
    from core.cluster.machines import machines_of
    from core.plan.auto import Question
    from core.plan.improving import best_changes

    question = Question(
        model=asked.model,
        profile=asked.profile,
        nodes=asked.nodes,
        speeds=dict(zip(asked.nodes, asked.speeds, strict=True)),
        machines=machines_of(asked.known),
        links=asked.links,
        limits={node.id: node.info.memory_limit for node in asked.known if node.info is not None},
        objective=asked.aim.objective,
        latency_bound_s=asked.aim.bound_s,
        batch=asked.request.micro_batch,
        names={node.id: node.name for node in asked.known},
        pins=asked.request.pins,
    )
    return best_changes(question, asked.request, prediction=asked.prediction, others=asked.others, cancel=cancel)


def bottleneck_words(
    prediction: Prediction,
    request: PlanRequest,
    layers: Sequence[Layer],
    nodes: Sequence[Node],
    links: Links,
    sent: Mapping[tuple[NodeId, NodeId], int] | None,
) -> str:
    """GUI thread, once a model is open: what sets the pace, without a full stop. ``sent`` as ``core`` has it."""
    from core.cluster.machines import machines_of
    from core.plan.bottleneck import bottleneck_words as core_words

    names = {node.id: node.name for node in nodes}
    return core_words(prediction, names, request, layers, sent=sent, links=links, machines=machines_of(nodes))


# ---------------------------------------------------------------- deployment


class DeploySteps(NamedTuple):
    compiled: Callable[[CompiledPlan], None]
    progress: Callable[[DeployProgress], None]


class Deployed(NamedTuple):
    deployment: Deployment
    verification: Verification


class DeployOrder(NamedTuple):
    """What is deployed, and what the planner balances it by."""

    model: Model
    request: PlanRequest
    profile: Profile | None
    speeds: Mapping[NodeId, float]
    nodes: Sequence[Node]
    links: Links = UNKNOWN


def deploy(
    cluster: Cluster, order: DeployOrder, old: Deployment | None, steps: DeploySteps, cancel: threading.Event
) -> Deployed:
    """Release what was deployed before, compile, ship, load, and prove on sample input that the outputs are right."""
    from core.cluster.deployment import deploy as core_deploy
    from core.cluster.machines import machines_of
    from core.plan.compile import compile_plan

    if old is not None:
        old.close()
    compiled = compile_plan(
        order.model,
        order.request,
        profile=order.profile,
        speeds=order.speeds,
        machines=machines_of(order.nodes),
        links=order.links,
    )
    steps.compiled(compiled)
    deployment = core_deploy(cluster, compiled, progress=steps.progress, cancel=cancel)
    try:
        return Deployed(deployment, verify(deployment, order.model, steps))
    except BaseException:
        deployment.close()
        raise


def verify(deployment: Deployment, model: Model, steps: DeploySteps) -> Verification:
    """Compare the outputs of every replica with the whole model's on random input. Raises VerificationError.

    Returns the worst of the comparisons.
    """
    from core.cluster.deployment import DeployProgress
    from core.plan.tolerance import tolerance
    from core.plan.verify import verify_outputs

    plan = deployment.plan
    feed = model.random_feed(plan.request.micro_batch)
    expected = model.reference()(feed)
    found = []
    for replica in range(plan.replicas):
        nodes = dict.fromkeys(shard.node for shard in plan.shards if shard.replica == replica)
        for node in nodes:
            steps.progress(DeployProgress(node, "verify", 0, 0))
        outputs = deployment.infer(feed, replica=replica)
        found.append(verify_outputs(expected, [outputs[info.name] for info in model.outputs], tolerance(model)))
        for node in nodes:
            steps.progress(DeployProgress(node, "ready", 0, 0))
    deployment.detach()
    worst = max(found, key=lambda one: (not one.passed, one.max_abs_error))
    if not worst.passed:
        raise VerificationError(
            f"The plan's outputs differ from the whole model's by up to {worst.max_abs_error:.3g}.",
            hint="Choose other cuts or another strategy for this model.",
        )
    return worst


# ---------------------------------------------------------------- runs


class RunOrder(NamedTuple):
    spec: str
    repeat: int
    in_flight: int | None
    sink: str
    seconds: float | None
    verification: Verification | None
    prediction: Prediction | None
    names: Mapping[NodeId, str]


class Result(Struct, frozen=True, eq=False):
    """What one item gave."""

    index: int
    """Number of the item within the run."""
    outputs: dict[str, Any]
    """This item's part of each output."""
    picture: Any
    """uint8 (height, width) or (height, width, channels) where the item is a picture, else None."""
    name: str = ""
    """What people call the item, such as its file's name."""


class RunSteps(NamedTuple):
    progress: Callable[[RunProgress], None]
    results: Callable[[list[Result]], None]


def run(
    deployment: Deployment,
    model: Model,
    entry: LibraryEntry | None,
    order: RunOrder,
    steps: RunSteps,
    drain: threading.Event,
    cancel: threading.Event,
) -> RunReport:
    """Run inputs through a deployment; ``drain`` ends it early with a report, ``cancel`` drops it with Cancelled."""
    from core.run.runner import run_job
    from core.run.sink import CallbackSink, TeeSink, open_sink
    from core.run.source import open_source
    from gui.run_feed import PatientSource, ResultFeed

    source = PatientSource(open_source(order.spec, model), order.repeat, order.seconds, drain)
    feed = ResultFeed(steps.results)
    shown = CallbackSink(feed.take)
    labels = entry.labels if entry is not None else ()
    sink = TeeSink(shown, open_sink(order.sink, labels)) if order.sink else shown
    report = run_job(deployment, source, sink, in_flight=order.in_flight, progress=steps.progress, cancel=cancel)
    feed.flush()
    verification, prediction = order.verification, order.prediction
    return structs.replace(
        report,
        input=order.spec,
        verified=verification.passed if verification else None,
        max_abs_error=verification.max_abs_error if verification else None,
        predicted=_predicted(prediction, order.names) if prediction else None,
        efficiency=_efficiency(report, prediction) if prediction else None,
    )


def _predicted(prediction: Prediction, names: Mapping[NodeId, str]) -> Predicted:
    return Predicted(
        throughput=prediction.throughput,
        latency_ms=prediction.latency_s * 1e3,
        memory_bytes={names.get(node.node, node.node[:8]): node.memory_bytes for node in prediction.nodes},
    )


def _efficiency(report: RunReport, prediction: Prediction) -> float | None:
    """Against the sum of the nodes' own speeds, which the prediction's own efficiency tells."""
    if prediction.throughput <= 0 or prediction.efficiency <= 0:
        return None
    return report.throughput * prediction.efficiency / prediction.throughput


def save_run(report: RunReport) -> int:
    from core.run import history

    return history.save_run(report)


class CompareOrder(NamedTuple):
    """What strategies are compared on."""

    model: Model
    batch: int
    profile: Profile | None
    """None: the layers are timed first."""
    nodes: Sequence[Node]
    speeds: Mapping[NodeId, float]
    links: Links
    seconds: float
    """Of each strategy, about."""


class CompareSteps(NamedTuple):
    """Called on the worker."""

    begins: Callable[[str], None]
    """Words for what is done now."""
    share: Callable[[float], None]
    """Of all, 0 to 1."""
    ran: Callable[[BenchRow, PlanRequest], None]
    refused: Callable[[Refusal], None]


def compare(
    cluster: Cluster, order: CompareOrder, old: Deployment | None, steps: CompareSteps, cancel: threading.Event
) -> BenchReport:
    """Release what is deployed; then deploy and run every strategy that so many nodes can take."""
    from core.cluster.machines import machines_of
    from core.commands.comparison import Steps, compare_strategies, every_strategy
    from core.commands.planning import Costs
    from core.cost.profile import profile_model as core_profile

    if old is not None:
        old.close()
    asked = every_strategy(len(order.nodes))
    begun: list[str] = []

    def begins(text: str) -> None:
        begun.append(text)
        steps.begins(text)
        steps.share((len(begun) - 1) / len(asked))

    profile = order.profile or core_profile(order.model, order.batch, cancel=cancel)
    costs = Costs(profile, order.speeds, machines_of(order.nodes), order.links)
    told = Steps(
        begins=begins,
        share=lambda done: steps.share((len(begun) - 1 + done) / len(asked)),
        ran=steps.ran,
        refused=steps.refused,
    )
    return compare_strategies(cluster, order.model, asked, order.batch, order.nodes, costs, order.seconds, told, cancel)


# ---------------------------------------------------------------- calibrations


def load_calibrations() -> tuple[Calibration, ...]:
    from core.run.calibrations import CalibrationStore

    return CalibrationStore().all()


def save_calibrations(calibrations: Sequence[Calibration]) -> None:
    from core.run.calibrations import CalibrationStore

    CalibrationStore().save(calibrations)


# ---------------------------------------------------------------- doctor


def examine(found: Callable[[Sequence[Finding]], object]) -> list[Finding]:
    """All checks of ``shardboard doctor``; ``found`` is told of each part as it ends. Takes some seconds."""
    from core.commands.doctor_here import check_keys, check_multicast, check_network, check_packages
    from core.commands.doctor_nodes import check_nodes

    findings: list[Finding] = []
    parts = (check_packages, check_keys, check_network, check_multicast, partial(check_nodes, LOOK_SECONDS, ()))
    for part in parts:
        some = part()
        found(some)
        findings += some
    return findings


# ---------------------------------------------------------------- closing


def close_all(
    quiet: Callable[[], bool],
    held: Callable[[], tuple[Deployment | None, Cluster | None, Sequence[LocalAgents]]],
    done: threading.Event,
    limit: float,
) -> None:
    """Wait until nothing runs any more (at most ``limit`` seconds), then free the nodes and end what was started."""
    deadline = time.monotonic() + limit
    settled = threading.Event()
    while not quiet() and time.monotonic() < deadline:
        settled.wait(0.02)
    deployment, cluster, local = held()
    try:
        if deployment is not None:
            deployment.close()
    finally:
        try:
            if cluster is not None:
                cluster.close()
        finally:
            for agents in local:
                agents.close()
            done.set()
