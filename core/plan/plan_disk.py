"""Plan files on disk."""

from __future__ import annotations

import os
from pathlib import Path

from core.errors import InputError, PlanError, SinkError
from core.plan.json_text import MOST_BYTES
from core.plan.plan_file import PlanFile, decode_plan_file, encode_plan_file
from core.units import format_bytes


def read_plan_file(path: Path) -> PlanFile:
    """InputError when it cannot be read, PlanError that shows the place when it is no plan."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
            size = max(len(data), os.fstat(file.fileno()).st_size)
    except OSError as error:
        raise InputError(
            f"The plan {path} cannot be read: {error.strerror or error}.",
            hint="" if path.exists() else "Make one with shardboard plan MODEL --save.",
        ) from error
    if size > MOST_BYTES:
        raise PlanError(
            f"{path} is no plan: it has {format_bytes(size)}, and a plan has a few KiB.",
            hint="Give a file that shardboard plan --save, or the panel, has written.",
        )
    return decode_plan_file(data, str(path))


def write_plan_file(path: Path, file: PlanFile) -> None:
    """As a whole or not at all. SinkError when it cannot be written."""
    data = encode_plan_file(file)
    whole = not path.exists() or path.is_file()  # a pipe cannot be replaced
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        (partial if whole else path).write_bytes(data)
        if whole:
            partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise SinkError(f"The plan {path} cannot be written: {error.strerror or error}.") from error
