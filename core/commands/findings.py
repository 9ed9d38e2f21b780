"""What a check of the doctor found."""

from __future__ import annotations

import enum

from msgspec import Struct


class Verdict(enum.Enum):
    GOOD = "good"
    NOTE = "note"
    """Worth knowing; nothing fails by it."""
    BAD = "bad"


class Finding(Struct, frozen=True):
    step: str
    verdict: Verdict
    words: str
    mend: str = ""


def good(step: str, words: str) -> Finding:
    return Finding(step, Verdict.GOOD, words)


def remark(step: str, words: str, mend: str = "") -> Finding:
    return Finding(step, Verdict.NOTE, words, mend)


def bad(step: str, words: str, mend: str) -> Finding:
    return Finding(step, Verdict.BAD, words, mend)
