"""ResNet-50 and MobileNetV2, laid out as torchvision exports them: batch normalisation folded into the convolutions."""

from __future__ import annotations

from typing import Final

import onnx

from core.model.reference_graph import GraphWriter, he, xavier

CLASSES: Final = 1000
RESNET50_STAGES: Final = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))
"""Width, blocks and first stride of layer1 ... layer4."""
MOBILENETV2_STAGES: Final = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Expansion, channels, blocks and first stride, as in the paper's table 2."""
_RESIDUAL_GAIN: Final = 0.4  # keeps the sum over many residual blocks of order one


def _conv(
    graph: GraphWriter,
    name: str,
    value: str,
    channels: tuple[int, int],
    kernel: int,
    *,
    stride: int = 1,
    groups: int = 1,
    gain: float = 1.0,
) -> str:
    before, after = channels
    fan_in = before // groups * kernel * kernel
    weight = graph.filters(f"{name}.weight", (after, before // groups, kernel, kernel), gain * he(fan_in))
    bias = graph.weight(f"{name}.bias", (after,), 0.05)
    padding = kernel // 2
    return graph.node(
        "Conv",
        name,
        value,
        weight,
        bias,
        kernel_shape=[kernel, kernel],
        strides=[stride, stride],
        pads=[padding] * 4,
        dilations=[1, 1],
        group=groups,
    )


def _classifier(graph: GraphWriter, name: str, value: str, features: int) -> str:
    weight = graph.filters(f"{name}.weight", (CLASSES, features), 10 * xavier(features))
    bias = graph.weight(f"{name}.bias", (CLASSES,), 0.05)
    return graph.node("Gemm", name, value, weight, bias, outputs=["logits"], transB=1)


def _bottleneck(graph: GraphWriter, name: str, value: str, before: int, width: int, stride: int) -> str:
    """torchvision's block: 1x1, 3x3 (which carries the stride), 1x1, and a shortcut around all three."""
    after = 4 * width
    shortcut = value
    if stride != 1 or before != after:
        shortcut = _conv(graph, f"{name}.downsample", value, (before, after), 1, stride=stride, gain=0.7)
    value = _conv(graph, f"{name}.conv1", value, (before, width), 1)
    value = graph.node("Relu", f"{name}.relu1", value)
    value = _conv(graph, f"{name}.conv2", value, (width, width), 3, stride=stride)
    value = graph.node("Relu", f"{name}.relu2", value)
    value = _conv(graph, f"{name}.conv3", value, (width, after), 1, gain=_RESIDUAL_GAIN)
    value = graph.node("Add", f"{name}.add", value, shortcut)
    return graph.node("Relu", f"{name}.relu3", value)


def resnet50(graph: GraphWriter) -> onnx.ModelProto:
    value = graph.input("image", ["batch", 3, 224, 224])
    value = _conv(graph, "conv1", value, (3, 64), 7, stride=2)
    value = graph.node("Relu", "relu", value)
    value = graph.node("MaxPool", "maxpool", value, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels = 64
    for stage, (width, blocks, first_stride) in enumerate(RESNET50_STAGES, start=1):
        for block in range(blocks):
            stride = first_stride if block == 0 else 1
            value = _bottleneck(graph, f"layer{stage}.{block}", value, channels, width, stride)
            channels = 4 * width
    value = graph.node("GlobalAveragePool", "avgpool", value)
    value = graph.node("Flatten", "flatten", value, axis=1)
    _classifier(graph, "fc", value, channels)
    return graph.finish(
        {"logits": ["batch", CLASSES]}, description="ResNet-50 with seeded random weights.", default_dims={}
    )


def _relu6(graph: GraphWriter, name: str, value: str) -> str:
    return graph.node("Clip", name, value, graph.scalar("relu6.min", 0.0), graph.scalar("relu6.max", 6.0))


def _inverted_residual(
    graph: GraphWriter, name: str, value: str, channels: tuple[int, int], stride: int, expansion: int
) -> str:
    """1x1 that widens, 3x3 depthwise, 1x1 that narrows; a shortcut where the shape stays the same."""
    before, after = channels
    shortcut, width = value, before * expansion
    if expansion != 1:
        value = _conv(graph, f"{name}.expand", value, (before, width), 1)
        value = _relu6(graph, f"{name}.expand.relu6", value)
    value = _conv(graph, f"{name}.depthwise", value, (width, width), 3, stride=stride, groups=width)
    value = _relu6(graph, f"{name}.depthwise.relu6", value)
    value = _conv(graph, f"{name}.project", value, (width, after), 1, gain=0.7)
    if stride == 1 and before == after:
        value = graph.node("Add", f"{name}.add", shortcut, value)
    return value


def mobilenetv2(graph: GraphWriter) -> onnx.ModelProto:
    value = graph.input("image", ["batch", 3, 224, 224])
    value = _conv(graph, "features.0", value, (3, 32), 3, stride=2)
    value = _relu6(graph, "features.0.relu6", value)
    channels, index = 32, 1
    for expansion, after, blocks, first_stride in MOBILENETV2_STAGES:
        for block in range(blocks):
            stride = first_stride if block == 0 else 1
            value = _inverted_residual(graph, f"features.{index}", value, (channels, after), stride, expansion)
            channels, index = after, index + 1
    value = _conv(graph, f"features.{index}", value, (channels, 1280), 1)
    value = _relu6(graph, f"features.{index}.relu6", value)
    value = graph.node("GlobalAveragePool", "avgpool", value)
    value = graph.node("Flatten", "flatten", value, axis=1)
    _classifier(graph, "classifier", value, 1280)
    return graph.finish(
        {"logits": ["batch", CLASSES]}, description="MobileNetV2 with seeded random weights.", default_dims={}
    )
