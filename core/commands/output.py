"""Results on stdout, progress on stderr."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self, TextIO

import msgspec

_REFRESH_SECONDS: Final = 0.1
_BAR: Final = 24


def print_json(value: object) -> None:
    """One JSON object on stdout."""
    print(msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=2).decode())


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as they need; those of numbers are set to the right."""
    print(format_table(headings, rows))


def format_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    columns = list(zip(headings, *rows, strict=True))
    widths = [max(len(cell) for cell in column) for column in columns]
    right = [bool(rows) and all(_is_number(cell) for cell in column[1:]) for column in columns]

    def line(cells: Sequence[str]) -> str:
        parts = [
            cell.rjust(width) if numeric else cell.ljust(width)
            for cell, width, numeric in zip(cells, widths, right, strict=True)
        ]
        return "  ".join(parts).rstrip()

    return "\n".join([line(headings), *(line(row) for row in rows)])


def _is_number(cell: str) -> bool:
    """With its unit, if any."""
    digits = cell.lstrip("<>+-")
    return cell in {"", "–"} or (digits[:1].isdigit() and len(cell) - len(digits) <= 1 and cell.count(" ") <= 1)


def note(words: str) -> None:
    """Something worth knowing that is not a result."""
    print(words, file=sys.stderr)


class Progress:
    """A line on stderr that is written over; where stderr is not a terminal, only each step's beginning is told."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._label = ""
        self._shown_at = 0.0
        self._dirty = False

    def step(self, label: str) -> None:
        """A new step begins."""
        self.clear()
        self._label = label
        self._shown_at = 0.0
        if self._terminal:
            self._write(label)
        else:
            print(f"{label} ...", file=self._stream, flush=True)

    def share(self, done: float, words: str = "") -> None:
        """``done`` of the step, 0 to 1."""
        now = time.monotonic()
        if self._terminal and (now - self._shown_at >= _REFRESH_SECONDS or done >= 1.0):
            self._shown_at = now
            filled = round(_BAR * min(1.0, max(0.0, done)))
            self._write(f"{self._label} [{'#' * filled}{'.' * (_BAR - filled)}] {done:4.0%} {words}")

    def clear(self) -> None:
        """The line is empty again, for other words."""
        if self._dirty:
            self._write("")
            self._dirty = False

    def _write(self, line: str) -> None:
        width = shutil.get_terminal_size().columns - 1
        self._stream.write(f"\r{line[:width].ljust(width)}\r")
        self._stream.flush()
        self._dirty = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()
