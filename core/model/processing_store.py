"""Processing that is remembered for a model, or guessed from its inputs and outputs."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import Final

import msgspec

from core.model.graph import Model
from core.model.pictures import picture_input
from core.model.processing_nodes import OLDEST_OPSET
from core.model.processing_types import InputProcessing, OutputProcessing, Processing
from core.paths import config_dir
from core.plan.form import Sha256

IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)
_log = logging.getLogger(__name__)


def default_processing(model: Model) -> Processing:
    """A guess for a model that takes one picture: pixels in, normalised as ImageNet's where there are three channels;
    the best five classes out, where an output looks like classes. Empty for every other model."""
    pictures = [picture for info in model.inputs if (picture := picture_input(info)) is not None]
    if len(pictures) != 1 or len(model.inputs) != 1 or pictures[0].dtype == "uint8" or model.opset < OLDEST_OPSET:
        return Processing()
    picture = pictures[0]
    colour = picture.channels == 3
    before = InputProcessing(
        input=picture.name,
        layout="NHWC",
        dtype="uint8",
        scale=1 / 255,
        mean=IMAGENET_MEAN if colour else None,
        std=IMAGENET_STD if colour else None,
    )
    made_by = {value.name: value.producer() for value in model.ir.graph.outputs}
    after = []
    for info in model.outputs:
        classes = info.dims[-1] if len(info.dims) == 2 else None
        if isinstance(classes, int) and classes > 1 and info.dtype.startswith("float"):
            producer = made_by[info.name]
            done = producer is not None and producer.op_type in ("Softmax", "Sigmoid")
            after.append(OutputProcessing(output=info.name, softmax=not done, top_k=min(5, classes)))
    return Processing(inputs=(before,), outputs=tuple(after))


def save_processing(model: Sha256, processing: Processing) -> None:
    """Remember what was chosen for the model with this hash (the hash before any processing)."""
    path = _remembered(model)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_bytes(msgspec.json.format(msgspec.json.encode(processing)))
    part.replace(path)


def load_processing(model: Sha256) -> Processing | None:
    """What was remembered for this model; None where nothing was, or what there is cannot be read."""
    path = _remembered(model)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Processing)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        _log.warning("the processing remembered in %s cannot be read and is not used: %s", path, error)
        return None


def _remembered(model: Sha256) -> Path:
    if not re.fullmatch(r"[0-9a-f]{64}", model):
        raise ValueError(f"not a SHA-256: {model!r}")
    return config_dir() / "processing" / f"{model}.json"
