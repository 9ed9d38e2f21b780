"""The model as the rest of the program sees it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import onnx_ir as ir

from core.errors import ModelError
from core.model import batching, data, dims, session, shapes
from core.model import cuts as cutting
from core.model.layers import describe_layers
from core.model.types import Cut, Layer, TensorInfo
from core.plan.form import Sha256

Concrete = Mapping[str, tuple[tuple[int, ...] | None, str]]
"""Value name -> (shape or None where it is not known, numpy name of the element type)."""
_Key = tuple[int, tuple[tuple[str, int], ...]]


class Model:
    """A cleaned ONNX graph and what is known of it. Safe to use from several threads; ``ir`` must not be changed.

    ``batch`` everywhere is the number of items in a micro-batch; where the model fixes its batch, that one is used
    instead. ``dims`` gives sizes for other dynamic dimensions by name; those not given have ``default_dims()``.
    """

    def __init__(
        self,
        graph: ir.Model,
        *,
        name: str,
        sha256: Sha256,
        path: Path | None = None,
        original: Path | None = None,
        base_sha256: Sha256 | None = None,
    ) -> None:
        """``graph`` is clean already (``fold.clean``); it belongs to this object from now on.

        ``original`` is the file that holds the same model, ``path`` the one it came from: they differ where the graph
        was changed since; ``base_sha256`` is then the hash of the model as it was.
        """
        self.path = path
        self._original = original
        self.name = name
        self.sha256 = sha256
        self.base_sha256 = base_sha256 or sha256
        self.ir = graph
        self.opset: int = graph.graph.opset_imports.get("", 1)
        self._lock = threading.RLock()
        self._base = shapes.shape_base(graph)
        self._shapes: dict[_Key, Concrete] = {}
        self._layers: dict[_Key, tuple[Layer, ...]] = {}
        self._cuts: dict[_Key, tuple[Cut, ...]] = {}
        self._unknown: frozenset[str] = frozenset()
        self._axes = self._find_axes()
        self.fixed_batch: int | None = self._axes.fixed_batch
        self.batchable: bool = self._axes.batched
        self.inputs: tuple[TensorInfo, ...] = self._axes.inputs
        self.outputs: tuple[TensorInfo, ...] = tuple(self._output_info(value) for value in graph.graph.outputs)

    def default_dims(self) -> dict[str, int]:
        """Sizes for the dynamic dimensions other than the batch."""
        return dict(self._axes.defaults)

    def shapes(self, batch: int, dims: Mapping[str, int] | None = None) -> Concrete:
        """Shape and element type of every value of the graph, initializers included."""
        key = self._key(batch, dims)
        with self._lock:
            if key not in self._shapes:
                self._shapes[key] = self._find_shapes(key)
            return self._shapes[key]

    def layers(self, batch: int, dims: Mapping[str, int] | None = None) -> tuple[Layer, ...]:
        """One per node of ``ir``, in order."""
        key = self._key(batch, dims)
        with self._lock:
            if key not in self._layers:
                self._layers[key] = describe_layers(self.ir, self.shapes(batch, dims))
            return self._layers[key]

    def cuts(self, batch: int, dims: Mapping[str, int] | None = None) -> tuple[Cut, ...]:
        """One per position from 1 to the number of layers - 1; each of them is legal."""
        key = self._key(batch, dims)
        with self._lock:
            if key not in self._cuts:
                self._cuts[key] = cutting.find_cuts(self.ir, self.shapes(batch, dims))
            return self._cuts[key]

    def varying(self, value: str) -> tuple[int | None, ...] | None:
        """The shape with None where it changes with the batch or a dynamic dimension; None if the rank is not known."""
        sizes = self._at_two(value)
        if sizes is None or value in self._unknown:
            return None if sizes is None else (None,) * len(sizes)
        return tuple(one if one == other else None for one, other in sizes)

    def hangs_on_data(self, value: str) -> bool:
        """Whether the shape may change though those of the inputs do not."""
        self.varying(value)
        return value in self._unknown

    def _at_two(self, value: str) -> tuple[tuple[int, int], ...] | None:
        """Each dimension at one setting of everything dynamic, and at twice that."""
        one = self.shapes(2).get(value, (None, ""))[0]
        other = self.shapes(4, {name: 2 * size for name, size in self._axes.defaults.items()}).get(value, (None, ""))[0]
        if one is None or other is None or len(one) != len(other):
            return None
        return tuple(zip(one, other, strict=True))

    def dims_of(self, feed: Mapping[str, np.ndarray]) -> dict[str, int]:
        """The sizes of the dynamic dimensions other than the batch in a feed, as the other methods take them."""
        return self._axes.sizes_in({name: array.shape for name, array in feed.items()})

    def random_feed(self, items: int, seed: int = 0, dims: Mapping[str, int] | None = None) -> dict[str, np.ndarray]:
        """Inputs the model can run on: ids within the table they index, masks of ones, normal floats; same by seed.

        A model that takes its whole feed as one item gives one such item, whatever ``items`` says.
        """
        return data.random_feed(self.ir, self.inputs, self._axes.shapes(items, self._axes.sizes(dims)), seed)

    def check_feed(self, feed: Mapping[str, np.ndarray]) -> int:
        """The number of items in the feed. Raises SourceError naming the input, what it should be and what it is."""
        return data.check_feed(self.inputs, feed, batchable=self.batchable)

    def reference(self, threads: int = 0) -> session.Runner:
        """The whole model in onnxruntime: a feed by input name gives the outputs in order. 0 threads: all cores.

        It is the file as it is on disk where there is one, so that it judges the cleaning too.
        """
        return session.whole_model(self.ir, self._original, threads)

    def _key(self, batch: int, sizes: Mapping[str, int] | None) -> _Key:
        if not self.batchable:
            batch = 1
        return self.fixed_batch or batch, tuple(sorted(self._axes.sizes(sizes).items()))

    def _find_axes(self) -> dims.Axes:
        described = [_input_info(value) for value in self.ir.graph.inputs]
        declared = dims.declared_sizes(self.ir.metadata_props)
        if dims.shared_batch(described):
            axes = dims.find_axes(described, batched=True, declared=declared)

            def inferred(count: int) -> shapes.Known:
                return shapes.infer(self._base, axes.shapes(count, axes.defaults))

            if batching.keeps_items_apart(self.ir, inferred, axes.fixed_batch):
                return axes
        return dims.find_axes(described, batched=False, declared=declared)

    def _find_shapes(self, key: _Key) -> Concrete:
        batch, sizes = key
        inputs = self._axes.shapes(batch, dict(sizes))
        known = shapes.infer(self._base, inputs)
        missing = [
            value.name
            for node in self.ir.graph
            for value in node.outputs
            if value.name and shapes.concrete(known.get(value.name, (None, ""))[0]) is None
        ]
        found = {name: (shapes.concrete(shape), dtype) for name, (shape, dtype) in known.items()}
        if missing:
            measured = shapes.measure(self.ir, missing, data.random_feed(self.ir, self.inputs, inputs, seed=0))
            found |= {
                name: (shape, dtype or found.get(name, (None, ""))[1]) for name, (shape, dtype) in measured.items()
            }
            self._unknown |= shapes.data_dependent(self.ir, missing)
        return MappingProxyType(found)

    def _output_info(self, value: ir.Value) -> TensorInfo:
        name = value.name or ""
        dtype = self.shapes(2).get(name, (None, ""))[1] or session.dtype_name(value.dtype)
        sizes = self._at_two(name)
        named = () if sizes is None else tuple(self._axes.name_at(2, one, other) for one, other in sizes)
        return TensorInfo(name, dtype, named, self.batchable)


def _input_info(value: ir.Value) -> TensorInfo:
    name = value.name or ""
    if value.shape is None:
        raise ModelError(
            f"Input '{name}' has no shape, not even a number of dimensions.",
            hint="Export the model again with the shapes of its inputs.",
        )
    named = tuple(
        dim if isinstance(dim, int) else (dim.value or f"{name}.{axis}") for axis, dim in enumerate(value.shape)
    )
    return TensorInfo(name, session.dtype_name(value.dtype), named, False)
