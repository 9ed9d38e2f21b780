"""What is said of a plan on more than one part of the Partition page: needs, pace, nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from PySide6.QtCore import QCoreApplication

from core.cluster.node import Node
from core.cost.types import NodePrediction, Prediction, Profile
from core.model.types import Layer
from core.plan.division import Division
from core.plan.form import NodeId, PlanRequest
from gui.bridge import Bridge
from gui.partition_state import QUICK
from gui.widgets.division_model import link_bytes
from gui.widgets.units import nbytes, percent, seconds
from gui.work import predicting

if TYPE_CHECKING:
    from core.plan.verify import Verification


def _tr(text: str) -> str:
    return QCoreApplication.translate("partition", text)


def memory_share(node: Node | None, predicted: NodePrediction) -> float:
    """What a node needs of what it may use; above 1 it does not fit; negative where no limit is known."""
    if node is None or node.info is None or not node.info.memory_limit:
        return -1.0
    return predicted.memory_bytes / node.info.memory_limit


def lacking_words(bridge: Bridge, prediction: Prediction) -> str:
    """Which node lacks the memory for a plan, and how much it needs; "" where all have enough."""
    full = next((n for n in prediction.nodes if memory_share(bridge.node(n.node), n) > 1), None)
    node = bridge.node(full.node) if full is not None else None
    if full is None or node is None or node.info is None:
        return ""
    text = _tr("Does not fit: {0} needs {1} and may use {2}.")
    return text.format(node.name, nbytes(full.memory_bytes), nbytes(node.info.memory_limit))


def full_strategies(bridge: Bridge, predictions: Mapping[str, Prediction | None]) -> frozenset[str]:
    """Those that some node lacks the memory for."""
    return frozenset(name for name, told in predictions.items() if told is not None and not fits(bridge, told))


def fits(bridge: Bridge, prediction: Prediction) -> bool:
    """Whether every node has the memory for it."""
    return all(memory_share(bridge.node(one.node), one) <= 1 for one in prediction.nodes)


def node_names(bridge: Bridge, nodes: Sequence[str]) -> str:
    """Names, joined."""
    return ", ".join(bridge.name_of(node) for node in nodes)


def verified_words(found: Verification | None) -> str:
    """What the comparison with the whole model found."""
    if found is None:
        return _tr("Deployed.")
    error = found.max_abs_error
    if found.drawn:
        return _tr("Verified, but for {0} drawn at random: max error {1}.").format(found.drawn, f"{error:.0e}")
    if error == 0:
        return _tr("Verified: its outputs are equal to the whole model's, bit for bit.")
    return _tr("Verified: max error {0} against the whole model.").format(f"{error:.0e}".replace("e-0", "e-"))


def bottleneck(
    bridge: Bridge, request: PlanRequest, prediction: Prediction, layers: Sequence[Layer], division: Division | None
) -> str:
    """What sets the pace, without a full stop."""
    crossing = link_bytes(division) if division is not None and request.strategy not in QUICK else None
    sent = {(NodeId(a), NodeId(b)): size for (a, b), size in crossing.items()} if crossing is not None else None
    return predicting.bottleneck_words(prediction, request, layers, bridge.nodes, bridge.links, sent)


def scale_words(profile: Profile | None, share: float) -> str:
    """What layers are as wide as; ``share``: of timing them that is done, negative: that is not going on."""
    if profile is not None:
        text = _tr("as wide as measured: {0} on one core of this machine")
        return text.format(seconds(profile.total_seconds))
    if share >= 0:
        return _tr("timing the layers, {0} done; until then as wide as their multiply-adds").format(percent(share))
    return _tr("as wide as their multiply-adds, until the layers are timed")
