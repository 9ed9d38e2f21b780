"""How node states look and read."""

from __future__ import annotations

from typing import Final

from PySide6.QtCore import QCoreApplication

from core.cluster.node import NodeState
from gui.widgets.basics import Kind

KINDS: Final[dict[NodeState, Kind]] = {
    NodeState.DISCOVERED: "warn",
    NodeState.TRUSTED: "info",
    NodeState.READY: "good",
    NodeState.BUSY: "info",
    NodeState.LOST: "bad",
    NodeState.DRAINED: "",
    NodeState.INCOMPATIBLE: "bad",
}


def state_word(state: NodeState) -> str:
    """The state's name in the person's language."""
    words = {
        NodeState.DISCOVERED: QCoreApplication.translate("states", "discovered"),
        NodeState.TRUSTED: QCoreApplication.translate("states", "connecting"),
        NodeState.READY: QCoreApplication.translate("states", "ready"),
        NodeState.BUSY: QCoreApplication.translate("states", "busy"),
        NodeState.LOST: QCoreApplication.translate("states", "lost"),
        NodeState.DRAINED: QCoreApplication.translate("states", "drained"),
        NodeState.INCOMPATIBLE: QCoreApplication.translate("states", "incompatible"),
    }
    return words[state]


def state_meaning(state: NodeState) -> str:
    """What the state means, in a sentence."""
    tr = QCoreApplication.translate
    words = {
        NodeState.DISCOVERED: tr("states", "Seen on the network, but it does not talk to this workstation yet."),
        NodeState.TRUSTED: tr("states", "It accepted this workstation; its first report is on the way."),
        NodeState.READY: tr("states", "It can take work."),
        NodeState.BUSY: tr("states", "A deployment holds it."),
        NodeState.LOST: tr(
            "states", "No sign of life for three seconds. It becomes the same node again when it returns."
        ),
        NodeState.DRAINED: tr("states", "Taken out of use by a person."),
        NodeState.INCOMPATIBLE: tr(
            "states", "It runs another version of the protocol; install the same version there."
        ),
    }
    return words[state]
