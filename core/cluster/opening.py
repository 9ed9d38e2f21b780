"""This workstation's own cluster: its identity, key file and paired nodes, from its config folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from core.cluster.client import Cluster, Listener
from core.cluster.measured import MeasurementStore
from core.cluster.reach import parse_address
from core.paths import config_dir
from core.wire.keys import KeyPair, load_or_create_key_file, load_or_create_keys
from core.wire.trust import KnownNodes

if TYPE_CHECKING:
    from core.cluster.local import LocalAgent

KNOWN_NODES_FILE: Final = "nodes.json"
KEYS_FILE: Final = "workstation.key"
SHARED_KEY_FILE: Final = "shared.key"


def workstation_keys() -> KeyPair:
    """This workstation's identity, made on first use."""
    return load_or_create_keys(config_dir() / KEYS_FILE)


def shared_key_path() -> Path:
    """The key file that local agents get, and that may be copied to nodes for pairing without codes (--key-file)."""
    return config_dir() / SHARED_KEY_FILE


def known_nodes() -> KnownNodes:
    return KnownNodes(config_dir() / KNOWN_NODES_FILE)


def open_cluster(
    *,
    local: Sequence[LocalAgent] = (),
    addresses: Sequence[str | tuple[str, int]] = (),
    discovery: bool = True,
    on_event: Listener | None = None,
    name: str = "",
    measure: bool = False,
) -> Cluster:
    """A cluster with this workstation's own keys and known nodes.

    ``local`` agents and ``addresses`` ("host:port" or a pair) are being reached when this returns; ``wait_ready``
    tells when they are. With ``discovery``, nodes paired in earlier days are looked for at their last address too.
    ``measure``: new nodes and links are measured in the background while nothing holds them.
    Raises InputError for an address that is none, or a damaged key file.
    """
    places = [parse_address(one) if isinstance(one, str) else one for one in addresses]
    cluster = Cluster(
        workstation_keys(),
        name=name,
        discovery=discovery,
        key_file=load_or_create_key_file(shared_key_path()),
        on_event=on_event,
        known=known_nodes(),
        measurements=MeasurementStore(),
    )
    if measure:
        cluster.measure_in_background()
    for agent in local:
        cluster.add_local(agent)
    for host, port in places:
        cluster.add_address(host, port)
    if discovery:
        cluster.look_for_known()
    return cluster
