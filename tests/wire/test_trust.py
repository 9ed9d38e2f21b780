"""The allow-list: persistent for workstations, temporary for the other nodes of a deployment."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import InputError
from core.plan.form import NodeId
from core.wire.keys import new_keys
from core.wire.trust import KnownNodes, TrustStore


def test_paired_workstations_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "trusted.json"
    a, b = new_keys().public, new_keys().public
    store = TrustStore(path)
    assert not store.allows(a)
    store.add(a, "desk")
    store.add(b, "lab")
    store.remove(b)
    again = TrustStore(path)
    assert again.clients == {a: "desk"}
    assert again.allows(a)
    assert not again.allows(b)
    with pytest.raises(InputError):
        store.add("not a key", "x")


def test_lent_peers_live_as_long_as_their_deployment(tmp_path: Path) -> None:
    path = tmp_path / "trusted.json"
    client, peer = new_keys().public, new_keys().public
    store = TrustStore(path)
    store.add(client, "desk")
    store.lend("d1", [peer])
    store.lend("d2", [peer])
    assert store.allows(peer)
    assert not store.is_client(peer)
    assert not TrustStore(path).allows(peer)
    store.withdraw("d1")
    assert store.allows(peer)
    store.withdraw("d2")
    store.withdraw("never")
    assert not store.allows(peer)
    assert store.allows(client)


@pytest.mark.parametrize("content", ["{", "[]", '{"a": 1}'])
def test_damaged_file_never_opens_the_node(tmp_path: Path, content: str) -> None:
    path = tmp_path / "trusted.json"
    path.write_text(content)
    with pytest.raises(InputError, match="damaged"):
        TrustStore(path)


def test_known_nodes(tmp_path: Path) -> None:
    path = tmp_path / "nodes.json"
    a, b = NodeId(new_keys().public), NodeId(new_keys().public)
    nodes = KnownNodes(path)
    nodes.remember(a, "one", "10.0.0.1", 7420)
    nodes.remember(b, "two", "10.0.0.1", 7421)
    assert nodes.key_of("10.0.0.1", 7421) == b
    nodes.remember(b, "two", "10.0.0.1", 7420)  # reinstalled: another node at the same address
    again = KnownNodes(path)
    assert again.ids() == (b,)
    assert again.key_of("10.0.0.1", 7420) == b
    assert again.key_of("10.0.0.1", 7421) is None
    again.forget(b)
    assert KnownNodes(path).get(b) is None
