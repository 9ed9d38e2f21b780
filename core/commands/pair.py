"""shardboard pair: a node shows a one-time code; whoever types it here may use the node from now on."""

from __future__ import annotations

import argparse

from core.cluster.opening import open_cluster
from core.cluster.reach import parse_address
from core.errors import NoNodesError, UnreachableError


def run(options: argparse.Namespace) -> int:
    host, port = parse_address(options.address)
    with open_cluster(discovery=False) as cluster:
        try:
            node = cluster.node(cluster.pair(host, options.pairing_port or port + 1, options.code).result())
        except UnreachableError as error:
            raise NoNodesError(error.message, hint=error.hint) from error
    print(f"{node.name} at {node.address} trusts this workstation now.")
    return 0
