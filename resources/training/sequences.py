"""rnn and lstm: two recurrent networks that read a picture of a digit a few pixels at a time.

    python -m resources.training.sequences [OUTDIR]

``rnn`` takes ``rows`` float32 (batch, 8, 8), one row of pixels a step; ``lstm`` takes ``strokes`` float32
(batch, 16, 4), four pixels a step. Both give ``logits`` float32 (batch, 10).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from resources.training.classifier import SEED, Array, array, digits, to_float, train_classifier
from resources.training.graph import GraphBuilder, accuracy, output_folder

SAMPLES = 64


class SequenceClassifier(nn.Module):
    """A recurrent layer over (batch, steps, features), its last state classified by a linear layer."""

    def __init__(self, cell: type[nn.RNN] | type[nn.LSTM], features: int, hidden: int) -> None:
        super().__init__()
        torch.manual_seed(SEED)
        self.cell = cell(features, hidden, batch_first=True)
        self.classify = nn.Linear(hidden, 10)

    def forward(self, sequence: torch.Tensor) -> torch.Tensor:
        outputs, _ = self.cell(sequence)
        return self.classify(outputs[:, -1])


def _gates(weight: Array) -> Array:
    """torch orders an LSTM's gates i, f, g, o; ONNX i, o, f, c."""
    i, f, g, o = np.split(weight, 4)
    return np.concatenate([i, o, f, g])


def recurrent_weights(cell: nn.RNN | nn.LSTM) -> dict[str, Array]:
    """ONNX's W (1, gates*hidden, features), R (1, gates*hidden, hidden) and B (1, 2*gates*hidden)."""
    order = _gates if isinstance(cell, nn.LSTM) else (lambda weight: weight)
    w, r, bw, br = (
        order(array(getattr(cell, name))) for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    )
    return {"W": w[None], "R": r[None], "B": np.concatenate([bw, br])[None]}


def write_network(network: SequenceClassifier, path: Path, name: str, steps: int, description: str) -> Path:
    cell, kind = network.cell, type(network.cell).__name__
    graph = GraphBuilder(path.stem, description)
    value = graph.input(name, ["batch", steps, cell.input_size])
    value = graph.node("Transpose", "steps_first", [value], perm=[1, 0, 2])
    weights = recurrent_weights(cell)
    outputs = ["", "last_state"]
    value = graph.node(kind, kind.lower(), [value], weights=weights, outputs=outputs, hidden_size=cell.hidden_size)
    value = graph.node("Squeeze", "squeeze", [value], weights={"axes": np.array([0], np.int64)})
    weights = {"weight": array(network.classify.weight), "bias": array(network.classify.bias)}
    graph.node("Gemm", "classify", [value], weights=weights, outputs=["logits"], transB=1)
    return graph.save(path, {"logits": ["batch", 10]})


def main() -> None:
    outdir = output_folder()
    data = digits()
    models = (
        ("rnn", nn.RNN, "rows", 8, 8, 64, 150, 5e-3, "Recurrent network that reads a digit row by row."),
        ("lstm", nn.LSTM, "strokes", 16, 4, 64, 120, 1e-2, "LSTM network that reads a digit four pixels at a time."),
    )
    for key, cell, name, steps, features, hidden, epochs, rate, description in models:
        network = SequenceClassifier(cell, features, hidden)

        def shape(x: torch.Tensor, steps: int = steps, features: int = features) -> torch.Tensor:
            return x.reshape(-1, steps, features)

        train_classifier(network, data.train_images, data.train_labels, epochs=epochs, shape=shape, rate=rate)
        path = write_network(network, outdir / "models" / f"{key}.onnx", name, steps, description)
        held_out = to_float(data.test_images).reshape(-1, steps, features)
        share = accuracy(path, {name: held_out}, data.test_labels)
        print(f"{key}: held-out accuracy {share:.2%} of {len(held_out)} pictures")
        samples = outdir / "samples"
        samples.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(samples / f"{key}.npz", **{name: held_out[:SAMPLES]})
        np.save(samples / f"{key}.expected.npy", data.test_labels[:SAMPLES])


if __name__ == "__main__":
    main()
