"""The demo without a window: digits on agents of this machine, one of them slowed down."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from core.cluster.local import start_local_agents
from core.cluster.opening import open_cluster
from core.cluster.verified import deploy_and_verify
from core.commands.output import Progress
from core.commands.planning import candidate, default_micro_batch, measure
from core.commands.stopping import stop_on_interrupt
from core.commands.wanted import wanted
from core.errors import JobError
from core.model.library import open_entry
from core.run.report import RunReport, as_predicted
from core.run.runner import run_job
from core.run.sink import MemorySink
from core.run.source import RandomSource

MODEL: Final = "digits-cnn"
SECONDS: Final = 8.0
SLOWED: Final = 0.5
_READY_SECONDS: Final = 30.0
_PROBE_BATCHES: Final = 64


def run_demo(nodes: int, seconds: float | None) -> RunReport:
    """Start the agents, deploy, verify, run for about ``seconds``, and stop everything."""
    limits = [1.0] * (nodes - 1) + [SLOWED if nodes > 1 else 1.0]
    with Progress() as progress, stop_on_interrupt() as stop:
        progress.step(f"Starting {nodes} agents on this machine")
        with (
            start_local_agents(nodes, cpu_limits=limits) as agents,
            open_cluster(local=agents.agents, discovery=False) as cluster,
        ):
            ready = cluster.wait_ready(nodes, _READY_SECONDS)
            model = open_entry(MODEL)
            batch = default_micro_batch(model, None)
            costs = measure(model, batch, cluster, ready, progress, stop)
            asked = wanted("replicate" if nodes > 1 else "single")
            choice = candidate(model, asked, batch, ready, costs, progress=progress, stop=stop)
            progress.step("Sending the model to the nodes")
            deployment, verdict = deploy_and_verify(cluster, choice.compiled, model, cancel=stop)
            with deployment:
                progress.step("Running")
                probe = run_job(deployment, RandomSource(model, batch * _PROBE_BATCHES), MemorySink(), cancel=stop)
                if not probe.throughput > 0:
                    raise JobError("The demo's first run gave no result.")
                items = round(probe.throughput * (seconds or SECONDS))
                source = RandomSource(model, max(batch, items))
                report = run_job(deployment, source, MemorySink(), cancel=stop)
    names = {node.id: node.name for node in ready}
    return replace(
        report,
        verified=verdict.passed,
        max_abs_error=verdict.max_abs_error,
        predicted=as_predicted(choice.prediction, names),
        efficiency=choice.prediction.efficiency_at(report.throughput),
    )
