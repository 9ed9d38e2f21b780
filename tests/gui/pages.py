"""What the tests of pages share: a bridge with its model opened, and nodes as the cluster would report them."""

from __future__ import annotations

from core.cluster.events import NodeChanged
from core.cluster.node import Node, NodeState
from core.plan.form import NodeId
from core.wire.messages import NodeInfo
from gui.bridge import Bridge

GIB = 1 << 30
SPEEDS = {"workshop": 1.0, "fast-one": 1.4, "small-board": 0.4, "spare": 0.9}


def node_of(name: str, *, memory: int = 4 * GIB, state: NodeState = NodeState.READY) -> Node:
    """A node called ``name``, with a measured speed from SPEEDS."""
    node_id = NodeId(name.ljust(40, "."))
    info = NodeInfo(
        id=node_id,
        name=name,
        version="0.1.0",
        hostname=name,
        system="Linux",
        cpu="",
        cores=4,
        threads=1,
        memory_total=memory,
        memory_limit=memory,
        cpu_limit=1.0,
        link_limit=0,
        data_port=7422,
        engine="onnxruntime",
    )
    return Node(
        id=node_id,
        name=name,
        host="192.0.2.1",
        control_port=7420,
        state=state,
        info=info,
        speed=SPEEDS.get(name, 1.0),
    )


def report_nodes(bridge: Bridge, *names: str) -> list[NodeId]:
    """Have the cluster report ready nodes; their ids."""
    nodes = [node_of(name) for name in names]
    for node in nodes:
        bridge._on_event(NodeChanged(node))
    return [node.id for node in nodes]
