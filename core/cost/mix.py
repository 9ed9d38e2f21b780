"""What a model's time is made of: operators of different kinds are not equally fast on all machines."""

from __future__ import annotations

from typing import Final

from core.cost.benchmark import Mix
from core.cost.types import Profile
from core.errors import PlanError
from core.model.graph import Model
from core.model.types import Layer

PRODUCTS: Final = frozenset(
    {
        "MatMul",
        "Gemm",
        "Einsum",
        "MatMulInteger",
        "QLinearMatMul",
        "LSTM",
        "GRU",
        "RNN",
        "Attention",
        "MultiHeadAttention",
        "GroupQueryAttention",
        "FusedMatMul",
        "FusedGemm",
        "MatMulNBits",
    }
)
CONVOLUTIONS: Final = frozenset({"Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "DeformConv", "FusedConv"})
FEWEST_USES: Final = 4
"""Of each weight: a product that uses its weights less often waits for the memory they come from."""


def mix_of(model: Model, profile: Profile) -> Mix:
    """The parts of the time, as ``profile`` has it, that layers of each kind take; they add up to 1.

    PlanError when the profile is of another model.
    """
    layers = model.layers(profile.batch)
    if len(layers) != len(profile.layer_seconds):
        raise PlanError(f"This profile is of another model: it has {len(profile.layer_seconds)} layers.")
    seconds = {"gemm": 0.0, "convolution": 0.0, "elementwise": 0.0}
    for layer, taken in zip(layers, profile.layer_seconds, strict=True):
        seconds[_kind(layer)] += taken
    total = sum(seconds.values())
    if total <= 0:
        return Mix(0.0, 0.0, 1.0)
    gemm, convolution = seconds["gemm"] / total, seconds["convolution"] / total
    return Mix(gemm, convolution, max(0.0, 1.0 - gemm - convolution))


def _kind(layer: Layer) -> str:
    if layer.op in CONVOLUTIONS:
        return "convolution"
    if layer.op in PRODUCTS and layer.macs >= FEWEST_USES * layer.parameters:
        return "gemm"
    return "elementwise"
