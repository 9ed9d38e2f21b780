"""The models a person can choose by name: bundled small ones, reference architectures, and those opened lately."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

import msgspec
from msgspec import Struct

from core.errors import ModelError
from core.model.graph import Model
from core.model.processing_types import InputProcessing, OutputProcessing, Processing
from core.model.reader import open_model
from core.model.reference import REFERENCES, REVISION, build
from core.paths import cache_dir, config_dir
from resources import resource_path

RECENT_LIMIT: Final = 12
_DIGITS: Final = tuple("0123456789")
_DIGIT_PICTURES: Final = Processing(
    inputs=(InputProcessing(input="image", layout="NHWC", dtype="uint8", scale=1 / 255),),
    outputs=(OutputProcessing(output="logits", softmax=True, top_k=3, labels=_DIGITS),),
)
_DIGIT_LOGITS: Final = Processing(
    outputs=(OutputProcessing(output="logits", softmax=True, top_k=3, labels=_DIGITS),),
)


class LibraryEntry(Struct, frozen=True):
    """One model of the library."""

    key: str
    """What a person types: "digits-cnn"; the path of a recent model."""
    title: str
    description: str
    kind: Literal["bundled", "reference", "recent"]
    path: Path | None
    """None: a reference model that has not been built yet."""
    samples: Path | None = None
    """A folder or file that the model takes as input."""
    labels: tuple[str, ...] = ()
    processing: Processing = Processing()
    """Fits ``samples`` and the labels; empty where the model takes its inputs as they are."""


def _bundled(key: str, title: str, description: str, samples: str, processing: Processing) -> LibraryEntry:
    return LibraryEntry(
        key=key,
        title=title,
        description=description,
        kind="bundled",
        path=resource_path("models", f"{key}.onnx"),
        samples=resource_path("samples", samples),
        labels=processing.labels,
        processing=processing,
    )


_TUMOURS: Final = Processing(
    outputs=(OutputProcessing(output="probabilities", top_k=2, labels=("malignant", "benign")),)
)
_BUNDLED: Final = (
    _bundled(
        "digits-cnn",
        "Digits, convolutional",
        "Reads 8x8 pictures of handwritten digits with three convolutions.",
        "digits",
        _DIGIT_PICTURES,
    ),
    _bundled(
        "digits-mlp",
        "Digits, perceptron",
        "Reads the same pictures with three fully connected layers.",
        "digits",
        _DIGIT_PICTURES,
    ),
    _bundled("rnn", "Digits, recurrent", "Reads a digit row by row.", "rnn.npz", _DIGIT_LOGITS),
    _bundled("lstm", "Digits, LSTM", "Reads a digit four pixels at a time.", "lstm.npz", _DIGIT_LOGITS),
    _bundled(
        "linear-regression",
        "Linear regression",
        "Progression of diabetes after a year from ten measurements.",
        "linear-regression.npz",
        Processing(),
    ),
    _bundled(
        "logistic-regression",
        "Logistic regression",
        "Is a breast tumour malignant or benign, from thirty measurements.",
        "logistic-regression.npz",
        _TUMOURS,
    ),
)


def library() -> tuple[LibraryEntry, ...]:
    """Every model that can be opened by name: bundled, reference, and recent ones whose file still exists."""
    references = (
        LibraryEntry(
            key=reference.key,
            title=reference.title,
            description=f"{reference.description}; seeded random weights, for measuring.",
            kind="reference",
            path=path if (path := _reference_path(reference.key)).is_file() else None,
        )
        for reference in REFERENCES.values()
    )
    return (*_BUNDLED, *references, *_recent())


def find_entry(key: str) -> LibraryEntry | None:
    """The entry with this key, upper and lower case alike."""
    return next((entry for entry in library() if entry.key.lower() == key.strip().lower()), None)


def open_entry(key: str, progress: Callable[[float], None] | None = None) -> Model:
    """Open a model of the library. A reference model is built on first use, which takes seconds: ``progress`` is told
    the share done, 0 ... 1. Raises ModelError for an unknown key, and where the model cannot be built or read."""
    entry = find_entry(key)
    if entry is None:
        raise ModelError(f"There is no model '{key}'.", hint=_choices())
    if entry.kind == "reference":
        return open_model(reference_file(entry.key, progress))
    assert entry.path is not None
    return open_model(entry.path)


def reference_file(key: str, progress: Callable[[float], None] | None = None) -> Path:
    """The file of a reference model, built now where it has not been yet."""
    path = _reference_path(key)
    if not (path.is_file() and path.with_name(path.name + ".data").is_file()):
        build(key, path, progress)
    return path


def resolve_model(
    text: str | Path, progress: Callable[[float], None] | None = None
) -> tuple[Model, LibraryEntry | None]:
    """Open what a person typed: a key of the library or the path of a file.

    The entry is None for a file that is not the library's. A key wins unless the text looks like a path. Raises
    ModelError that lists the keys where it is neither.
    """
    path = Path(text).expanduser()
    entry = find_entry(str(text))
    if entry is not None and entry.kind != "recent":
        return open_entry(entry.key, progress), entry
    if not path.exists() and path.suffix.lower() != ".onnx" and path.name == str(text):
        raise ModelError(f"There is no model '{text}', and no file of that name.", hint=_choices())
    return open_model(path), next((e for e in _BUNDLED if e.path == path.resolve()), None)


def remember_model(path: Path) -> None:
    """Put a model file first in the list of recent ones. The library's own are not listed twice."""
    path = path.resolve()
    if any(entry.path == path for entry in _BUNDLED) or path.is_relative_to(_references_folder()):
        return
    paths = [str(path), *(kept for kept in _recent_paths() if kept != str(path))]
    target = _recent_file()
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    part.write_bytes(msgspec.json.encode(paths[:RECENT_LIMIT]))
    part.replace(target)


def _choices() -> str:
    keys = [entry.key for entry in library() if entry.kind != "recent"]
    return f"Give the path of an .onnx file, or one of {', '.join(keys)}."


def _references_folder() -> Path:
    return (cache_dir() / "models").resolve()


def _reference_path(key: str) -> Path:
    return _references_folder() / f"{key}-{REVISION}" / f"{key}.onnx"


def _recent_file() -> Path:
    return config_dir() / "recent.json"


def _recent_paths() -> list[str]:
    """What is not readable as a list of paths counts as empty: the list is a convenience."""
    try:
        return msgspec.json.decode(_recent_file().read_bytes(), type=list[str])
    except (OSError, msgspec.MsgspecError):
        return []


def _recent() -> tuple[LibraryEntry, ...]:
    paths = [path for text in _recent_paths() if (path := Path(text)).is_file()]
    return tuple(
        LibraryEntry(key=str(path), title=path.stem, description=str(path.parent), kind="recent", path=path)
        for path in paths
    )
