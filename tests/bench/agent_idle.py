"""What an agent takes that nobody uses: with no workstation, then with one that watches it.

python -m tests.bench.agent_idle [--seconds 20]
"""

from __future__ import annotations

import contextlib
import time

import psutil

from core.cluster.local import start_local_agents
from core.cluster.opening import open_cluster
from tests.bench.options import emit, options


def main() -> None:
    chosen = options(__doc__, model="", micro_batch=1)
    with start_local_agents(1, threads=1) as agents:
        process = psutil.Process(agents.agents[0].pid)
        alone = share_of_a_core(process, chosen.seconds)
        with contextlib.closing(open_cluster(local=agents.agents, discovery=False)) as cluster:
            cluster.wait_ready(1, timeout=20)
            watched = share_of_a_core(process, chosen.seconds)
        resident = process.memory_info().rss
    emit(
        "agent_idle",
        chosen,
        limit="nothing: an idle process",
        idle_core_share=round(alone, 5),
        watched_core_share=round(watched, 5),
        resident_mb=round(resident / 1e6, 1),
    )


def share_of_a_core(process: psutil.Process, seconds: float) -> float:
    start, before = time.perf_counter(), process.cpu_times()
    time.sleep(seconds)
    after = process.cpu_times()
    return (after.user + after.system - before.user - before.system) / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
