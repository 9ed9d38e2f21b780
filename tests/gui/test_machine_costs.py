"""What this workstation's messages and cores cost: kept from earlier days, or measured while nothing else goes on."""

from __future__ import annotations

from collections.abc import Callable

from core.cost.kept_messages import keep_message_costs
from core.cost.messages import MessageCosts
from core.cost.side_by_side import _kept_at, _of_all, _save
from core.plan.form import PlanRequest
from gui.bridge import Bridge, Phase
from gui.machine_costs import QUIET_LOOKS
from tests.gui.pages import node_of

Wait = Callable[..., None]
SLOW = MessageCosts(message_s=5e-3)


def test_what_is_kept_counts_in_every_prediction(bridge: Bridge, wait_for: Wait) -> None:
    from msgspec.structs import replace

    from core.cluster.events import NodeChanged

    keep_message_costs(SLOW)
    here = [replace(node_of(name), host="127.0.0.1") for name in ("workshop", "fast-one")]
    for node in here:
        bridge._on_event(NodeChanged(node))
    bridge.openModel("digits-cnn")
    wait_for(lambda: bridge.profile is not None, 60)
    assert bridge.profile is not None
    request = PlanRequest("replicate", tuple(node.id for node in here), bridge.profile.batch)
    model = bridge.model
    assert model is not None
    _save(_kept_at(model, bridge.profile.batch, 1), 0.5)
    bridge.costs._looking_up.clear()
    bridge.costs.want(model, bridge.profile.batch, 2)
    wait_for(lambda: bridge.profile is not None and bridge.profile.together == _of_all(0.5, 1))
    bridge.start()
    wait_for(lambda: bridge.costs.messages == SLOW)
    assert bridge.profile.messages == SLOW
    slow = bridge.predict(request)
    assert slow is not None
    assert slow.nodes[0].receive_s > 4e-3
    assert bridge.costs.settled


def test_nothing_is_measured_beside_a_job_and_a_person_can_give_it_up(bridge: Bridge, wait_for: Wait) -> None:
    bridge._set_phase(Phase.RUNNING)
    bridge.start()
    costs = bridge.costs
    wait_for(costs._look.isActive)
    assert not costs.settled
    for _ in range(2 * QUIET_LOOKS):
        costs._go_on()
    assert not costs.busy, "a job runs"
    bridge._set_phase(Phase.IDLE)
    wait_for(lambda: costs.busy)
    told: list[str] = []
    bridge.activityChanged.connect(lambda words, _share: told.append(words))
    cancel = costs._cancel
    assert cancel is not None
    bridge._set_phase(Phase.DEPLOYING)
    assert cancel.is_set(), "a job that begins comes first"
    assert not costs.busy
    assert told[-1] == ""
    bridge._set_phase(Phase.IDLE)
    wait_for(lambda: costs.busy)  # it is begun again
    costs.give_up()
    assert costs.settled
    assert not costs.busy
    assert "Typical figures count" in costs.problem
