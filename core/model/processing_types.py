"""What a person can choose to happen before a model and behind it."""

from __future__ import annotations

from msgspec import Struct

from core.model.pictures import Layout


class AxisSlice(Struct, frozen=True):
    """A part taken out of one axis of what the client sends: elements ``start`` to ``stop`` of ``length``."""

    axis: int
    """1 or more: axis 0 counts the items."""
    start: int
    stop: int
    length: int
    """What the client sends along this axis."""


class InputProcessing(Struct, frozen=True):
    """From what the client sends to what the model takes, in this order: slice, layout, resize, crop, scale, normalise.

    Sizes are (height, width) in pixels. ``(value · scale - mean) / std`` with ``mean`` and ``std`` one per channel, or
    one for all.
    """

    input: str
    layout: Layout = ""
    """Of the pictures that the client sends; empty: as the model wants them."""
    dtype: str = ""
    """uint8 where the client sends pixels; empty: as the model wants them."""
    sent: tuple[int, int] | None = None
    """The pictures' size as sent. None: that of ``size``, else of ``crop``, else the model's own."""
    size: tuple[int, int] | None = None
    """Resize to this, bilinear."""
    crop: tuple[int, int] | None = None
    """Keep this much around the centre."""
    scale: float | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    slices: tuple[AxisSlice, ...] = ()


class OutputProcessing(Struct, frozen=True):
    """What is made of an output along its last axis, the classes.

    Alone, ``softmax`` gives "NAME/softmax"; ``argmax`` gives "NAME/argmax" (int64); ``top_k`` gives "NAME/top_values"
    (float32) and "NAME/top_indices" (int64), largest first. The output itself is then no longer sent.
    """

    output: str
    softmax: bool = False
    argmax: bool = False
    top_k: int = 0
    """0: none."""
    labels: tuple[str, ...] = ()
    """Names of the classes by index, for people."""


class Processing(Struct, frozen=True):
    """Pre- and postprocessing of one model; empty: none."""

    inputs: tuple[InputProcessing, ...] = ()
    outputs: tuple[OutputProcessing, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """Of the first output that has labels."""
        return next((output.labels for output in self.outputs if output.labels), ())


def top_names(output: str) -> tuple[str, str]:
    """Names of the outputs that hold the best classes' values and indices."""
    return f"{output}/top_values", f"{output}/top_indices"
