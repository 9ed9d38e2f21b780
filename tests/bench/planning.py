"""How long planning takes: from graph to shards, `auto` on many nodes, one prediction after a cut was dragged, and what
the page paints of a long model. Seconds of one thread's own time, beside the limit of each.

python -m tests.bench.planning [--repeats 3]
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import combinations

from PySide6.QtGui import QColor

from core.cost.balance import balanced_cuts, estimated_profile
from core.cost.dataflow import predict_outline
from core.cost.links import WORKSTATION, Link, Links
from core.cost.predict import Predictor
from core.cost.types import Machine, Profile
from core.model.graph import Model
from core.model.library import resolve_model
from core.model.types import Cut, Layer
from core.plan.auto import best_plan
from core.plan.compile import micro_batch_for, outline_plan
from core.plan.form import NodeId, PlanRequest
from gui.app import has_display, make_application
from gui.theme import Theme
from gui.widgets.layer_list import LayerTreeModel
from gui.widgets.ribbon import Ribbon
from gui.widgets.ribbon_model import RibbonModel
from gui.widgets.ribbon_view import RibbonNode
from tests.bench.options import emit, options

PLANNED = ("resnet50", "bert-base", "gpt2")
STRATEGIES = ("pipeline", "tensor", "spatial", "pipeline(4) > tensor(2)")
LAYERS = 3000


def main() -> None:
    chosen = options(__doc__, model="gpt2", micro_batch=1)
    repeats = chosen.repeats
    models = {name: resolve_model(name)[0] for name in dict.fromkeys((*PLANNED, chosen.model))}
    profiles = {name: estimated_profile(model, micro_batch_for(model)) for name, model in models.items()}
    eight = nodes(8)
    planning = {
        name: {text: least(repeats, partial(planned, models[name], text, eight)) for text in STRATEGIES}
        for name in PLANNED
    }
    model, profile = models[chosen.model], profiles[chosen.model]
    emit(
        "planning",
        chosen,
        graph_to_shards_8_nodes_s=planning,
        graph_to_shards_limit_s=2.0,
        auto_16_nodes_s=automatic(model, profile, repeats),
        auto_limit_s=3.0,
        dragged_cut_s=dragged(model, profile, repeats),
        dragged_cut_limit_s=0.05,
        three_thousand_layers_s=painted(repeats),
        three_thousand_layers_limit_s={"listed": 0.25, "painted": 0.05},
    )


def nodes(count: int) -> tuple[NodeId, ...]:
    return tuple(NodeId(f"node{index:036d}") for index in range(count))


def least(repeats: int, act: Callable[[], object]) -> float:
    """Seconds of the quickest of so many times, the first of which does not count where there are more."""
    taken = []
    for _ in range(max(2, repeats)):
        begun = time.thread_time()
        act()
        taken.append(time.thread_time() - begun)
    return round(min(taken[1:]), 4)


def planned(model: Model, strategy: str, own: Sequence[NodeId]) -> object:
    return outline_plan(model, PlanRequest(strategy, tuple(own), micro_batch_for(model)))


def automatic(model: Model, profile: Profile, repeats: int) -> dict[str, float]:
    """16 nodes: alike, of different speeds, behind different links as well, and on two machines of too few cores."""
    own = nodes(16)
    speeds = {node: 1.0 - 0.03 * index for index, node in enumerate(own)}
    pairs = list(combinations((WORKSTATION, *own), 2))
    links = Links({pair: Link(1e-4, (1 + index % 3) * 12.5e6) for index, pair in enumerate(pairs)})
    machines = {node: Machine(f"machine {index % 2}", 4) for index, node in enumerate(own)}
    return {
        "alike": least(repeats, lambda: best_plan(model, profile, own, {})),
        "speeds": least(repeats, lambda: best_plan(model, profile, own, speeds)),
        "speeds_and_links": least(repeats, lambda: best_plan(model, profile, own, speeds, {}, links)),
        "quickest": least(repeats, lambda: best_plan(model, profile, own, speeds, {}, links, objective="latency")),
        "two_machines": least(repeats, lambda: best_plan(model, profile, own, speeds, machines)),
    }


def dragged(model: Model, profile: Profile, repeats: int) -> dict[str, float]:
    """One prediction, for cuts that were not asked about before."""
    found = {}
    for count, cores in ((2, 0), (8, 0), (16, 0), (2, 2), (4, 2), (16, 4)):
        own = nodes(count)
        machines = {node: Machine("lab", cores, here=True) for node in own} if cores else {}
        predictor = Predictor(profile, model, {}, machines)
        cuts = balanced_cuts(profile, model, [1.0] * count, nodes=own, machines=machines)
        moved = iter([tuple(cut - shift for cut in cuts) for shift in range(max(2, repeats))])
        name = f"pipeline of {count}" + (f" on {cores} cores" if cores else "")
        found[name] = least(repeats, partial(moved_on, predictor, own, profile.batch, moved))
    own = nodes(16)
    machines = {node: Machine("lab", 4, here=True) for node in own}
    predictor = Predictor(profile, model, {}, machines)
    request = PlanRequest("replicate", own, profile.batch)
    found["replicate on 16 on 4 cores"] = least(repeats, lambda: predictor.predict(request))
    divided = outline_plan(model, PlanRequest("tensor", own[:4], profile.batch), profile=profile)
    found["tensor of 4, played"] = least(repeats, lambda: predict_outline(profile, divided, model, {}))
    return found


def moved_on(predictor: Predictor, own: tuple[NodeId, ...], batch: int, cuts: Iterator[tuple[int, ...]]) -> object:
    return predictor.predict(PlanRequest("pipeline", own, batch, next(cuts)))


def painted(repeats: int) -> dict[str, float]:
    """The list of layers and the ribbon of a model with a great many."""
    if not has_display():
        os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    app = make_application(["planning"])
    Theme.of()
    layers = [
        Layer(i, f"l{i}", "Conv", f"layer.{i // 60}/part{i // 20 % 3}", 1, 4, i, (f"v{i}",), (1, 2), 8)
        for i in range(LAYERS)
    ]
    cuts = [Cut(position, (f"v{position - 1}",), 8 * position, ()) for position in range(1, LAYERS)]
    tree, ribbon = LayerTreeModel(), Ribbon()
    ribbon.resize(1200, 200)
    ribbon.set_model(RibbonModel(layers, [1e-4] * LAYERS, cuts), 0.3)
    ribbon.set_plan([RibbonNode(str(i), str(i), QColor("red")) for i in range(4)], (700, 1500, 2200), pipeline=True)
    ribbon.show()
    found = {"listed": least(repeats, lambda: tree.set_layers(layers)), "painted": least(repeats, ribbon.grab)}
    ribbon.close()
    app.quit()
    return found


if __name__ == "__main__":
    main()
