"""What the rest of the program knows of a model: its tensors, its layers, its cuts."""

from __future__ import annotations

from msgspec import Struct


class TensorInfo(Struct, frozen=True):
    """An input or output of a model.

    ``dims`` holds an int where the size is fixed, else the name of the dynamic dimension (unnamed ones are called
    "INPUT.AXIS"); None where an output's size is not known. ``dtype`` is a numpy name.
    """

    name: str
    dtype: str
    dims: tuple[int | str | None, ...]
    batched: bool
    """Axis 0 counts the items."""


class Layer(Struct, frozen=True):
    """One node of the cleaned graph, in execution order, at one batch size."""

    index: int
    name: str
    op: str
    group: str
    """The exporter's module path, "encoder/layer.0/attention"; empty if the file does not tell."""
    parameters: int
    """Elements of the weights this layer is the first to use; a shared weight counts once."""
    parameter_bytes: int
    macs: int
    """Multiply-adds; for operators that are not products of matrices, the number of output elements."""
    outputs: tuple[str, ...]
    output_shape: tuple[int, ...] | None
    """Of the first output."""
    output_bytes: int
    """Of all outputs together."""


class Cut(Struct, frozen=True):
    """A place where a pipeline may be divided: layers before ``position`` run first."""

    position: int
    tensors: tuple[str, ...]
    """Values that travel from the first side to the second; model inputs are not among them."""
    nbytes: int
    """Of ``tensors``, for one micro-batch of the batch size asked for."""
    recomputed: tuple[int, ...]
    """Layers before ``position`` that the second side runs again, because that is cheaper than sending their results.
    They need only model inputs, constants, ``tensors`` and one another."""
