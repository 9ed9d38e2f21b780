"""A few lines around ``onnx.helper`` so that the training scripts read like the networks they write."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from resources import RESOURCES

OPSET = 17
IR_VERSION = 8

Dims = Sequence[int | str]


class GraphBuilder:
    """Collects named nodes in the order they run; every node has one output, called after the node."""

    def __init__(self, name: str, description: str) -> None:
        self._name = name
        self._description = description
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, dims: Dims) -> str:
        self._inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, list(dims)))
        return name

    def node(
        self,
        op: str,
        name: str,
        inputs: Sequence[str],
        *,
        weights: Mapping[str, np.ndarray[Any, Any]] | None = None,
        outputs: Sequence[str] = (),
        **attributes: Any,
    ) -> str:
        """Append a node; ``weights`` become initializers "NAME.KEY" behind ``inputs``. Returns its first output."""
        names = list(inputs)
        for key, value in (weights or {}).items():
            weight = f"{name}.{key}"
            self._weights.append(numpy_helper.from_array(np.ascontiguousarray(value), weight))
            names.append(weight)
        made = list(outputs) or [name]
        self._nodes.append(helper.make_node(op, names, made, name=name, **attributes))
        return next(output for output in made if output)

    def save(self, path: Path, outputs: Mapping[str, Dims]) -> Path:
        """Check the graph strictly and write it to ``path``."""
        results = [helper.make_tensor_value_info(n, TensorProto.FLOAT, list(d)) for n, d in outputs.items()]
        graph = helper.make_graph(self._nodes, self._name, self._inputs, results, self._weights)
        graph.doc_string = self._description
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="shardboard")
        model.ir_version = IR_VERSION
        onnx.checker.check_model(model, full_check=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(model, path)
        return path


def run_model(path: Path, feed: Mapping[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """The first output of the saved model, by onnxruntime."""
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, dict(feed))[0])


def accuracy(path: Path, feed: Mapping[str, np.ndarray[Any, Any]], labels: np.ndarray[Any, Any]) -> float:
    """The share of items whose largest output is the label, as the saved file computes it."""
    return float((run_model(path, feed).argmax(axis=1) == labels).mean())


def output_folder() -> Path:
    """The OUTDIR of the command line; this package where none is given."""
    parser = argparse.ArgumentParser(description="Train the bundled models and write them with sample inputs.")
    parser.add_argument("outdir", nargs="?", type=Path, default=RESOURCES, metavar="OUTDIR")
    return Path(parser.parse_args().outdir)
