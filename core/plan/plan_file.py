"""Plans as files: JSON that a person can read and edit, for ``shardboard plan --save`` and the panel alike.

    {
      "format": 2,
      "written_by": "Shardboard 0.1.0",
      "model": {"name": "resnet50", "sha256": "646beaa6…", "layers": 122, "parameters": 25557032},
      "strategy": "pipeline",
      "micro_batch": 8,
      "nodes": [
        {"name": "pi-1", "id": "…", "share_percent": 60},     share_percent: tensor and spatial only, 100 in each group
        {"name": "pi-2", "id": "…", "share_percent": 40}
      ],
      "cuts": [{"position": 58, "layer": "layer3.0.conv1"}],  the layer with which the next stage begins
      "pins": [{"position": 3, "layer": "layer1.0.conv1", "node": "pi-1"}],
      "tensor_axis": "rows", "spatial_axis": "rows",
      "predicted": {"throughput": 103.2, "latency_ms": 12.1, …}
    }

Written by hand, a node needs its name or its id, a cut its position or its layer; ``null`` is as good as nothing. A
field whose name begins with "comment" may stand anywhere. ``encode_plan_file`` and ``decode_plan_file`` know nothing of
models and nodes that are there; ``core.plan.plan_fit`` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from core import __version__
from core.cost.types import Prediction
from core.errors import PlanError
from core.model.graph import Model
from core.plan.form import NodeId, PlanRequest
from core.plan.json_text import JsonText, Value, kind_of, shown
from core.plan.plan_file_types import FORMAT, PROGRAM, Expected, Mark, Pin, PlanFile, PlanModel, PlanNode
from core.plan.plan_reading import PlanReader

__all__ = ["FORMAT", "PlanFile", "decode_plan_file", "encode_plan_file", "plan_file_of"]


def plan_file_of(
    model: Model,
    request: PlanRequest,
    names: Mapping[NodeId, str],
    prediction: Prediction | None = None,
    saved: float | None = None,
) -> PlanFile:
    """The file for ``request``, which is for ``model``. ``names`` of its nodes; ``saved`` is when, Unix time."""
    layers = model.layers(request.micro_batch)
    told = None
    if prediction is not None:
        told = Expected(
            throughput=_rounded(prediction.throughput),
            latency_ms=_rounded(prediction.latency_s * 1000),
            efficiency=_rounded(prediction.efficiency),
            bottleneck=names.get(prediction.bottleneck),
            memory_bytes={names.get(use.node, use.node): use.memory_bytes for use in prediction.nodes},
        )

    def mark(position: int) -> Mark:
        return Mark(position, layers[position].name if 0 <= position < len(layers) else None)

    return PlanFile(
        model=PlanModel(
            name=model.name,
            sha256=model.base_sha256,
            layers=len(layers),
            parameters=sum(layer.parameters for layer in layers),
            processed_sha256=model.sha256 if model.sha256 != model.base_sha256 else None,
        ),
        strategy=request.strategy,
        micro_batch=request.micro_batch,
        nodes=tuple(PlanNode(names.get(node) or None, node) for node in request.nodes),
        cuts=tuple(map(mark, request.cuts)) if request.cuts is not None else None,
        shares=request.shares,
        pins=tuple(Pin(mark(layer), request.nodes.index(node)) for layer, node in request.pins),
        tensor_axis=request.tensor_axis,
        spatial_axis=request.spatial_axis,
        predicted=told,
        saved=datetime.fromtimestamp(saved, UTC).isoformat(timespec="seconds") if saved is not None else None,
    )


def _rounded(figure: float) -> float:
    return float(f"{figure:.6g}")


# ---------------------------------------------------------------- writing


def encode_plan_file(file: PlanFile) -> bytes:
    """UTF-8 JSON, indented. ``decode_plan_file`` gives ``file`` back."""
    told: dict[str, Any] = {
        "format": FORMAT,
        "written_by": f"{PROGRAM} {__version__}",
        "saved": file.saved,
        "model": _present(msgspec.to_builtins(file.model)),
        "strategy": file.strategy,
        "micro_batch": file.micro_batch,
        "nodes": [_node(file, index) for index in range(len(file.nodes))],
        "cuts": [_mark(cut) for cut in file.cuts] if file.cuts is not None else None,
        "pins": [_mark(pin.at) | {"node": _reference(file.nodes, pin.node)} for pin in file.pins],
        "tensor_axis": file.tensor_axis,
        "spatial_axis": file.spatial_axis,
        "predicted": _present(msgspec.to_builtins(file.predicted)) if file.predicted is not None else None,
    }
    return msgspec.json.format(msgspec.json.encode(_present(told)), indent=2) + b"\n"


def _present(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value not in (None, {}) and (value != [] or key == "cuts")}


def _node(file: PlanFile, index: int) -> dict[str, Any]:
    node = file.nodes[index]
    share = {"share_percent": _percent(file.shares[index])} if file.shares is not None else {}
    return _present({"name": node.name, "id": node.id}) | share


def _reference(nodes: Sequence[PlanNode], index: int) -> str | None:
    """What tells a node from the others."""
    name = nodes[index].name
    return name if name is not None and [one.name for one in nodes].count(name) == 1 else nodes[index].id


def _percent(share: float) -> float:
    percent = float(f"{100 * share:.14g}")
    return percent if percent / 100 == share else 100 * share


def _mark(mark: Mark) -> dict[str, Any]:
    return _present({"position": mark.position, "layer": mark.layer})


# ---------------------------------------------------------------- reading


def decode_plan_file(data: bytes, name: str = "The plan") -> PlanFile:
    """What the file called ``name`` says. PlanError in words that show the place where it is not as it should be."""
    text = JsonText(data, name)
    top = text.value.what
    if not isinstance(top, dict) or not {"format", "model", "strategy"} & top.keys():
        raise PlanError(
            f"{name} is no plan: it holds {kind_of(text.value)} that does not speak of a model and a strategy.",
            hint="Give a file that shardboard plan --save, or the panel, has written.",
        )
    _check_format(text, top)
    return PlanReader(text, text.value).file()


def _check_format(text: JsonText, top: Mapping[str, Value]) -> None:
    value = top.get("format")
    if value is None:
        return
    if isinstance(value.what, bool) or not isinstance(value.what, int) or value.what < 1:
        raise text.wrong(value, f'"format" is {kind_of(value)}, but should be {FORMAT}')
    if value.what != FORMAT:
        age = "newer" if value.what > FORMAT else "older"
        writer = top.get("written_by")
        some = f"{'a newer' if age == 'newer' else 'an older'} {PROGRAM}"
        by = shown(writer.what)[:_MOST_WRITER] if writer and isinstance(writer.what, str) else some
        again = "make the plan again: shardboard plan MODEL --save"
        raise text.wrong(
            value,
            f"This plan has format {kind_of(value)}, written by {by}; this is {PROGRAM} "
            f"{__version__}, which knows format {FORMAT}",
            f"Install the newer {PROGRAM} here, or {again}." if age == "newer" else f"{again[0].upper()}{again[1:]}.",
        )


_MOST_WRITER: Final = 60
