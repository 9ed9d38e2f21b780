"""Pieces of a model in sessions of their own: how long each takes, and which of its operators takes how much of it."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from core.cost.clock import compute_clock
from core.model.graph import Model
from core.model.session import aligned
from core.plan.extract import Fragment, layer_graph
from core.plan.graphs import ShardGraph, shard_graph
from core.plan.passing import passing
from core.plan.program import program_of

Array = npt.NDArray[Any]
Values = dict[str, Array]

MICRO_BATCH: Final = 2
"""For the types of values; a segment runs with as many items as it is given."""
FEWEST_RUNS: Final = 3
MOST_RUNS: Final = 200
PROFILED_SECONDS: Final = 0.02
MOST_PROFILED_RUNS: Final = 20


class Segment:
    """A fragment of a model that runs here."""

    def __init__(self, model: Model, fragment: Fragment, threads: int) -> None:
        self.fragment = fragment
        program, names = passing(program_of(model, layer_graph(model), fragment, MICRO_BATCH))
        self._graph: ShardGraph = shard_graph(model, program)
        self._value_of = {name: value for value, name in names.items()}
        self._threads = threads

    def time(self, values: Values, seconds: float, check: Callable[[], None]) -> float:
        """Median seconds of one run with onnxruntime's fusions, over about ``seconds`` of runs.

        Takes its inputs out of ``values`` and adds its outputs to them. ``check`` is called between runs.
        """
        session = self._session(self._options())
        feed = {port.name: values[port.name] for port in self._graph.inputs}
        names = [port.name for port in self._graph.outputs]
        values.update(zip(map(self._value_of.__getitem__, names), session.run(names, feed), strict=True))
        clock = compute_clock(self._threads)
        taken: list[float] = []
        while len(taken) < FEWEST_RUNS or (sum(taken) < seconds and len(taken) < MOST_RUNS):
            check()
            begun = clock()
            session.run(names, feed)
            taken.append(clock() - begun)
        return statistics.median(taken)

    def operator_seconds(self, values: Values, node_names: Mapping[str, int]) -> dict[int, float]:
        """Seconds of each layer when nothing is fused; ``node_names`` maps the names of nodes to layers.

        Layers that the runtime breaks up (functions) or whose times do not show are missing.
        """
        options = self._options()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.enable_profiling = True
        feed = {port.name: values[port.name] for port in self._graph.inputs}
        with tempfile.TemporaryDirectory(prefix="shardboard-") as folder:
            options.profile_file_prefix = str(Path(folder) / "operators")
            session = self._session(options)
            begun = time.perf_counter()
            runs = 0
            while runs < FEWEST_RUNS or (time.perf_counter() - begun < PROFILED_SECONDS and runs < MOST_PROFILED_RUNS):
                session.run(None, feed)
                runs += 1
            events = json.loads(Path(session.end_profiling()).read_bytes())
        return _least_by_layer(events, node_names)

    def _options(self) -> ort.SessionOptions:
        options = ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        return options

    def _session(self, options: ort.SessionOptions) -> ort.InferenceSession:
        values = []
        for weight, tensor in zip(self._graph.weights, self._graph.tensors, strict=True):
            array = np.frombuffer(tensor.view(), weight.dtype).reshape(weight.shape)
            values.append(ort.OrtValue.ortvalue_from_numpy(aligned(array)))
        if values:
            options.add_external_initializers([weight.name for weight in self._graph.weights], values)
        return ort.InferenceSession(self._graph.data, options, providers=["CPUExecutionProvider"])


def _least_by_layer(events: list[dict[str, Any]], node_names: Mapping[str, int]) -> dict[int, float]:
    """Each node's kernel time in seconds, of the run in which it was least disturbed."""
    found: dict[int, list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and (name := str(event.get("name", ""))).endswith("_kernel_time"):
            layer = node_names.get(name.removesuffix("_kernel_time"))
            if layer is not None:
                found[layer].append(float(event["dur"]) * 1e-6)
    return {layer: min(durations) for layer, durations in found.items()}
