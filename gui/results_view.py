"""Results as people read them: the best classes with their probabilities, or the values themselves. No Qt."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from gui.work.running import Result

Array = npt.NDArray[Any]
BEST: Final = 3
VALUES_SHOWN: Final = 6
_CLASSES: Final = re.compile(r"softmax|logit|prob|score|class", re.IGNORECASE)
"""Names of outputs whose numbers are of classes."""
_LABEL: Final = re.compile(r"(?:^|[_\-. ])label[_\-=]?([^_\-. ]+)", re.IGNORECASE)


class Guess(Struct, frozen=True):
    """One class a result might be."""

    label: str
    value: float


class ReadResult(Struct, frozen=True, eq=False):
    """A result made ready to be drawn."""

    item: Result
    guesses: tuple[Guess, ...]
    """Best first; empty where no output holds classes."""
    probabilities: bool
    """The guesses' values are shares of 1."""
    text: str
    """The values in words, where there are no guesses."""
    expected: str
    """The right label, as far as the item's name tells; else ""."""

    @property
    def right(self) -> bool | None:
        """None: not known."""
        if not self.expected or not self.guesses:
            return None
        return self.guesses[0].label == self.expected


def read_result(item: Result, labels: Sequence[str]) -> ReadResult:
    """The best classes of an item: from top-k outputs, a class number, or a row of scores."""
    guesses, probabilities = _guesses(item.outputs, labels)
    return ReadResult(
        item=item,
        guesses=guesses,
        probabilities=probabilities,
        text="" if guesses else describe(item.outputs),
        expected=expected_label(item.name),
    )


def expected_label(name: str) -> str:
    """``"012_label7.png"`` says 7; "" where a name says nothing."""
    found = _LABEL.search(PurePath(name).stem) if name else None
    return found.group(1) if found else ""


def _guesses(outputs: Mapping[str, Array], labels: Sequence[str]) -> tuple[tuple[Guess, ...], bool]:
    for name, values in outputs.items():
        if name.endswith("/top_values"):
            indices = outputs.get(f"{name.removesuffix('values')}indices")
            if indices is not None:
                return _best(values.ravel(), indices.ravel(), labels), is_share(values)
    for name, values in outputs.items():
        if name.endswith("/argmax"):
            return (Guess(_named(int(values.ravel()[0]), labels), float("nan")),), False
    for name, values in outputs.items():
        scores = values.ravel()
        if values.ndim <= 1 and scores.size >= 2 and scores.dtype.kind == "f" and (labels or _CLASSES.search(name)):
            order = np.argsort(-scores, kind="stable")
            return _best(scores[order], order, labels), is_share(scores)
    return (), False


def _best(values: Array, indices: Array, labels: Sequence[str]) -> tuple[Guess, ...]:
    pairs = zip(values[:BEST].tolist(), indices[:BEST].tolist(), strict=True)
    return tuple(Guess(_named(int(index), labels), float(value)) for value, index in pairs)


def is_share(values: Array) -> bool:
    """Whether the values may be shares of one whole."""
    return bool(values.size and values.min() >= -1e-6 and values.sum() <= 1 + 1e-3)


def _named(index: int, labels: Sequence[str]) -> str:
    return labels[index] if 0 <= index < len(labels) else str(index)


def describe(outputs: Mapping[str, Array]) -> str:
    """The first values of each output: ``price: 152.3``."""
    lines = []
    for name, array in outputs.items():
        flat = array.ravel()
        shown = "  ".join(_value(v) for v in flat[:VALUES_SHOWN].tolist())
        more = " …" if flat.size > VALUES_SHOWN else ""
        shape = f" ({' × '.join(map(str, array.shape))})" if flat.size > VALUES_SHOWN else ""
        lines.append(f"{name}{shape}: {shown}{more}")
    return "\n".join(lines)


def _value(value: float | int | bool) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
