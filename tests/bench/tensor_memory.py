"""What each of four nodes takes for its part of a model, against a quarter of the weights and what all of them hold.

python -m tests.bench.tensor_memory [--model gpt2]
"""

from __future__ import annotations

import contextlib

import psutil

from core.cluster.deployment import deploy
from core.cluster.local import start_local_agents
from core.cluster.opening import open_cluster
from core.model.library import resolve_model
from core.plan.compile import compile_plan
from core.plan.form import NodeId, Plan, PlanRequest, Sha256, memory_bytes
from tests.bench.options import emit, options

NODES = 4


def main() -> None:
    chosen = options(__doc__, model="gpt2", micro_batch=1)
    model, _ = resolve_model(chosen.model)
    feed = model.random_feed(1)
    with (
        start_local_agents(NODES, threads=1) as agents,
        contextlib.closing(open_cluster(local=agents.agents, discovery=False)) as cluster,
    ):
        ids = tuple(node.id for node in cluster.wait_ready(NODES, timeout=20))
        processes = {agent.id: psutil.Process(agent.pid) for agent in agents.agents}
        empty = {node: processes[node].memory_info().rss for node in ids}
        whole = weights_of(compile_plan(model, PlanRequest("single", ids[:1], 1)).plan, ids[0])
        compiled = compile_plan(model, PlanRequest("tensor", ids, 1))
        with contextlib.closing(deploy(cluster, compiled, owner="benchmark")) as deployment:
            for _ in range(3):
                deployment.infer(feed)
            taken = [processes[node].memory_info().rss - empty[node] for node in ids]
    held = {node: weights_of(compiled.plan, node) for node in ids}
    common = set.intersection(*(set(weights) for weights in held.values()))
    replicated = sum(nbytes for blob, nbytes in held[ids[0]].items() if blob in common)
    limit = (sum(whole.values()) - replicated) // NODES + replicated
    emit(
        "tensor_memory",
        chosen,
        limit="a quarter of the weights that are divided, and all of those that every node holds, in bytes",
        nodes=NODES,
        limit_bytes=limit,
        whole_bytes=sum(whole.values()),
        replicated_bytes=replicated,
        weight_bytes=[sum(held[node].values()) for node in ids],
        predicted_bytes=[memory_bytes(compiled.plan.on_node(node)) for node in ids],
        resident_bytes=taken,
        ratio=[round(nbytes / limit, 3) for nbytes in taken],
    )


def weights_of(plan: Plan, node: NodeId) -> dict[Sha256, int]:
    return {weight.blob: weight.nbytes for shard in plan.on_node(node) for weight in shard.weights}


if __name__ == "__main__":
    main()
