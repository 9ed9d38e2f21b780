"""Measures the link from this node to another one. Runs on the worker thread."""

from __future__ import annotations

from agent.failures import AgentFailureError
from agent.limits import Limits
from agent.link_limit import LinkPacer
from agent.probes import Probes
from core.errors import Cancelled, InputError, ProtocolError, RemoteError, UnreachableError
from core.wire.messages import LinkProbed, ProbeLink
from core.wire.probing import probe_link
from core.wire.sockets import Wire


def probe_peer(wire: Wire, limits: Limits, probes: Probes, message: ProbeLink) -> LinkProbed:
    """``message`` was checked. The probe ends early when it is closed. Raises AgentFailureError."""
    # Nothing else leaves a node that is measured, so a pacer of its own gives what all its messages would share.
    pacer = LinkPacer(limits)
    try:
        channel = wire.connect(message.endpoint, message.peer)
    except InputError as error:
        raise AgentFailureError("field", error.message) from error
    try:
        return probe_link(
            channel,
            message.probe,
            message.sizes,
            message.seconds,
            pace=pacer.delay,
            stop=lambda: not probes.is_open(message.probe),
        )
    except Cancelled as error:
        raise AgentFailureError("busy", "The measurement of the link was ended.") from error
    except (UnreachableError, RemoteError, ProtocolError) as error:
        raise AgentFailureError("link", error.message) from error
    finally:
        channel.close()
