"""digits-cnn and digits-mlp: two networks that read the same 8x8 pictures of digits, and 60 held-out pictures.

    python -m resources.training.digits [OUTDIR]

Both take ``image`` float32 (batch, 1, 8, 8) in 0 ... 1 and give ``logits`` float32 (batch, 10).
"""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import nn

from resources.training.classifier import SEED, Array, array, digits, to_float, train_classifier
from resources.training.graph import GraphBuilder, accuracy, output_folder

SAMPLES = 60


def make_cnn() -> nn.Sequential:
    torch.manual_seed(SEED)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(256, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def make_mlp() -> nn.Sequential:
    torch.manual_seed(SEED)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))


def write_network(network: nn.Sequential, path: Path, description: str) -> Path:
    """Write a plain chain of torch modules as ONNX with one readable node each: conv1, relu1, pool1, fc1, ..."""
    graph = GraphBuilder(path.stem, description)
    value = graph.input("image", ["batch", 1, 8, 8])
    counts: dict[str, int] = {}

    def numbered(kind: str) -> str:
        counts[kind] = counts.get(kind, 0) + 1
        return f"{kind}{counts[kind]}"

    last = len(network) - 1
    for index, module in enumerate(network):
        match module:
            case nn.Conv2d():
                weights = {"weight": array(module.weight), "bias": array(module.bias)}
                value = graph.node(
                    "Conv", numbered("conv"), [value], weights=weights, kernel_shape=[3, 3], pads=[1, 1, 1, 1]
                )
            case nn.Linear():
                weights = {"weight": array(module.weight), "bias": array(module.bias)}
                outputs = ["logits"] if index == last else []
                value = graph.node("Gemm", numbered("fc"), [value], weights=weights, outputs=outputs, transB=1)
            case nn.ReLU():
                value = graph.node("Relu", numbered("relu"), [value])
            case nn.MaxPool2d():
                value = graph.node("MaxPool", numbered("pool"), [value], kernel_shape=[2, 2], strides=[2, 2])
            case nn.Flatten():
                value = graph.node("Flatten", "flatten", [value])
            case _:
                raise TypeError(f"no ONNX form for {type(module).__name__}")
    return graph.save(path, {"logits": ["batch", 10]})


def write_samples(folder: Path, images: Array, labels: Array) -> None:
    """The first SAMPLES held-out pictures as 8x8 grey PNG files, "007_label3.png"."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, (image, label) in enumerate(zip(images[:SAMPLES], labels[:SAMPLES], strict=True)):
        Image.fromarray(image).save(folder / f"{index:03d}_label{label}.png", optimize=True)


def main() -> None:
    outdir = output_folder()
    data = digits()
    held_out = {"image": to_float(data.test_images)[:, None]}
    networks = (
        ("digits-cnn", make_cnn(), 30, "Convolutional network that reads 8x8 grey pictures of handwritten digits."),
        ("digits-mlp", make_mlp(), 80, "Multi-layer perceptron that reads 8x8 grey pictures of handwritten digits."),
    )
    for name, network, epochs, description in networks:
        train_classifier(network, data.train_images, data.train_labels, epochs=epochs, shape=lambda x: x[:, None])
        path = write_network(network, outdir / "models" / f"{name}.onnx", description)
        share = accuracy(path, held_out, data.test_labels)
        print(f"{name}: held-out accuracy {share:.2%} of {len(data.test_labels)} pictures")
    write_samples(outdir / "samples" / "digits", data.test_images, data.test_labels)


if __name__ == "__main__":
    main()
