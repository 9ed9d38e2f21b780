from __future__ import annotations

import hashlib

import numpy as np
import onnxruntime as ort

from core.cost.speed import local_speed_seconds, speed_graph


def test_the_graph_is_always_the_same_and_small() -> None:
    first, second = speed_graph()[0], speed_graph()[0]
    assert hashlib.sha256(first).digest() == hashlib.sha256(second).digest()
    assert len(first) < 10_000


def test_the_graph_needs_nothing_but_its_inputs() -> None:
    graph, ports = speed_graph()
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    assert [entry.name for entry in session.get_inputs()] == [port.name for port in ports]
    outputs = session.run(
        None, {port.name: np.ones([dim or 1 for dim in port.shape or ()], port.dtype) for port in ports}
    )
    assert all(np.isfinite(output).all() for output in outputs)


def test_local_speed_is_in_a_sensible_range() -> None:
    assert 1e-3 < local_speed_seconds(repeats=3) < 2.0
