"""Well-known architectures with seeded random weights, for performance work: what they compute means nothing.

| key | inputs | outputs |
| --- | --- | --- |
| resnet50, mobilenetv2 | image float32 (batch, 3, 224, 224) | logits float32 (batch, 1000) |
| bert-base | input_ids, attention_mask, token_type_ids | last_hidden_state float32 (batch, sequence, 768), |
|           | int64 (batch, sequence)                   | pooler_output float32 (batch, 768)               |
| gpt2 | input_ids int64 (batch, sequence) | logits float32 (batch, sequence, 50257) |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

import onnx
from msgspec import Struct

from core.errors import ModelError
from core.model.reference_graph import GraphWriter, write_model
from core.model.reference_language import bert_base, gpt2_small
from core.model.reference_vision import mobilenetv2, resnet50
from core.units import format_bytes

Progress = Callable[[float], None]
"""Told the share done, 0 ... 1, on the calling thread."""

REVISION: Final = 1
"""Raised when what is built changes; part of the cached file's name."""
SEED: Final = 2024


class Reference(Struct, frozen=True):
    """One architecture that can be built."""

    key: str
    title: str
    description: str
    nbytes: int
    """Of the weights, about."""
    fill: Callable[[GraphWriter], onnx.ModelProto]


_ALL: Final = (
    Reference(
        "resnet50", "ResNet-50", "Image classifier, 25.5 M parameters, 4.1 G multiply-adds", 102_228_128, resnet50
    ),
    Reference("mobilenetv2", "MobileNetV2", "Small image classifier, 3.5 M parameters", 14_000_000, mobilenetv2),
    Reference("bert-base", "BERT-base", "Text encoder, 12 layers, 109 M parameters", 438_000_000, bert_base),
    Reference(
        "gpt2",
        "GPT-2 small",
        "Text decoder, 12 layers, 163 M parameters (untied)",
        652_000_000,
        gpt2_small,
    ),
)
REFERENCES: Final[Mapping[str, Reference]] = MappingProxyType({reference.key: reference for reference in _ALL})


def build(key: str, path: str | Path, progress: Progress | None = None) -> Path:
    """Build a reference model as ``path`` with its weights in ``path``.data beside it; both appear only when whole.

    The same key always gives the same bytes. Raises ModelError for an unknown key and where the disk does not take
    the file; whatever ``progress`` raises (a cancelled build) passes through and leaves nothing behind.
    """
    reference = REFERENCES.get(key)
    if reference is None:
        raise ModelError(f"There is no reference model {key!r}.", hint=f"Known are: {', '.join(REFERENCES)}.")
    try:
        return write_model(Path(path), reference.fill, expected_bytes=reference.nbytes, seed=SEED, progress=progress)
    except OSError as error:
        raise ModelError(
            f"{reference.title} could not be written to {path}: {error.strerror or error}.",
            hint=f"It needs {format_bytes(reference.nbytes)} of free disk space there.",
        ) from error


def build_resnet50(path: str | Path) -> Path:
    return build("resnet50", path)


def build_mobilenetv2(path: str | Path) -> Path:
    return build("mobilenetv2", path)


def build_bert_base(path: str | Path) -> Path:
    return build("bert-base", path)


def build_gpt2_small(path: str | Path) -> Path:
    return build("gpt2", path)
