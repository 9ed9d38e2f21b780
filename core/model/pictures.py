"""Which inputs are pictures, and how their axes lie."""

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct

from core.model.types import TensorInfo

Layout = Literal["", "NCHW", "NHWC"]
_CHANNELS: Final = (1, 3, 4)


class PictureInput(Struct, frozen=True):
    """An input of four axes of which one holds 1, 3 or 4 channels: grey, RGB or RGBA."""

    name: str
    dtype: str
    layout: Layout
    channels: int
    height: int | None
    """None where the model takes any size."""
    width: int | None


def picture_input(info: TensorInfo) -> PictureInput | None:
    """How a picture fits this input; None where it takes something else than pictures."""
    if len(info.dims) != 4 or info.dtype not in ("uint8", "float16", "float32", "float64"):
        return None
    first = info.dims[1] in _CHANNELS
    if not first and info.dims[3] not in _CHANNELS:
        return None
    if info.dims[3] in _CHANNELS and first:  # narrow pictures: four channels are rare, bytes come channels last
        first = info.dims[3] == 4 or (info.dims[1] != 4 and info.dtype != "uint8")
    channels, height, width = (info.dims[axis] for axis in ((1, 2, 3) if first else (3, 1, 2)))
    assert isinstance(channels, int)
    return PictureInput(
        name=info.name,
        dtype=info.dtype,
        layout="NCHW" if first else "NHWC",
        channels=channels,
        height=height if isinstance(height, int) else None,
        width=width if isinstance(width, int) else None,
    )
