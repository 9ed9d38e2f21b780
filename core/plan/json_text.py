"""JSON that people edit by hand: every value keeps its place, so that what is wrong with it can be shown there."""

from __future__ import annotations

import codecs
import json
import unicodedata
from collections.abc import Sequence
from difflib import get_close_matches
from math import isfinite
from typing import Final, NoReturn

from msgspec import Struct

from core.errors import PlanError

MOST_BYTES: Final = 4 << 20
"""Of a text that is read at all."""
DEEPEST: Final = 24
_SHOWN: Final = 40
"""Characters of a value that are repeated in words."""
_LINE: Final = 96
"""Of the line that is shown."""
_BLANK: Final = " \t\r\n"
_UTF_16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

Scalar = str | int | float | bool | None


class Value(Struct, frozen=True, eq=False):
    """Something in the text, from ``start`` to before ``stop``."""

    what: dict[str, Value] | list[Value] | Scalar
    start: int
    stop: int
    key: tuple[int, int] | None = None
    """Where its name stands, in an object."""


class JsonText:
    """A text and the value in it. PlanError that shows the place when it is no JSON."""

    def __init__(self, data: bytes, name: str) -> None:
        """``name`` is that of the file, for the words."""
        self.name = name
        self.text = self._decoded(data)
        self._decoder = json.JSONDecoder(parse_constant=self._no_number)
        value, end = self._value(self._blank(0), 0)
        end = self._blank(end)
        if end < len(self.text):
            raise self.wrong_at(end, end + 1, "There is something after the end", "Delete what follows the last '}'.")
        self.value = value

    def wrong(self, value: Value, words: str, hint: str = "") -> PlanError:
        """An error that shows ``value``; ``words`` are a sentence without its full stop."""
        return self.wrong_at(value.start, value.stop, words, hint)

    def wrong_key(self, value: Value, words: str, hint: str = "") -> PlanError:
        """The same, that shows the value's name."""
        return self.wrong_at(*(value.key or (value.start, value.stop)), words, hint)

    def wrong_at(self, start: int, stop: int, words: str, hint: str = "") -> PlanError:
        line = self.text.count("\n", 0, start) + 1
        begin = self.text.rfind("\n", 0, start) + 1
        end = self.text.find("\n", start)
        end = len(self.text) if end < 0 else end
        first = max(begin, start - _LINE // 2)
        last = min(end, max(first + _LINE, start + 1))
        stop = min(max(stop, start + 1), last)
        before, marked = shown(self.text[first:start]), shown(self.text[start:stop])
        if first == begin:
            before = before.lstrip()
        cut = ("…" if first > begin else "", "…" if last < end else "")
        told = f"{cut[0]}{before}{marked}{shown(self.text[stop:last])}".rstrip() + cut[1]
        indent = " " * (_columns(cut[0]) + _columns(before))
        return PlanError(
            f"{self.name}, line {line}: {words}.\n    {told}\n    {indent}{'^' * max(1, _columns(marked))}", hint=hint
        )

    # ------------------------------------------------------------ parsing

    def _decoded(self, data: bytes) -> str:
        if len(data) > MOST_BYTES:
            raise PlanError(
                f"{self.name} is no plan: it has {len(data):,} bytes, and a plan has a few thousand.",
                hint="Give a file that shardboard plan --save has written.",
            )
        if data[:2] in _UTF_16:
            raise PlanError(f"{self.name} is written in UTF-16.", hint="Save it as UTF-8 in the editor.")
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise PlanError(
                f"{self.name}, line {line}: byte {error.start} is no text (UTF-8).",
                hint="Give a file that shardboard plan --save has written; this one is damaged, or of another kind.",
            ) from None

    def _value(self, at: int, depth: int) -> tuple[Value, int]:
        mark = self.text[at : at + 1]
        if mark in ("{", "["):
            if depth == DEEPEST:
                raise self.wrong_at(at, at + 1, "Brackets are nested too deeply for a plan")
            return self._object(at, depth) if mark == "{" else self._array(at, depth)
        return self._scalar(at)

    def _object(self, at: int, depth: int) -> tuple[Value, int]:
        found: dict[str, Value] = {}
        end = self._blank(at + 1)
        while self._mark(end) != "}":
            key = self._key(end)
            if key.what in found:
                raise self.wrong(key, f'"{shown(str(key.what))}" is there twice', "Keep one of the two.")
            end = self._blank(key.stop)
            if self._mark(end) != ":":
                raise self.wrong_at(end, end + 1, f"A ':' is missing after \"{shown(str(key.what))}\"")
            value, end = self._value(self._blank(end + 1), depth + 1)
            found[str(key.what)] = Value(value.what, value.start, value.stop, (key.start, key.stop))
            end = self._comma(end, "}")
        return Value(found, at, end + 1), end + 1

    def _array(self, at: int, depth: int) -> tuple[Value, int]:
        found: list[Value] = []
        end = self._blank(at + 1)
        while self._mark(end) != "]":
            value, end = self._value(end, depth + 1)
            found.append(value)
            end = self._comma(end, "]")
        return Value(found, at, end + 1), end + 1

    def _comma(self, at: int, closing: str) -> int:
        """Past the comma, or at the closing bracket."""
        end = self._blank(at)
        mark = self._mark(end)
        if mark == closing:
            return end
        if mark != ",":
            if mark:
                raise self.wrong_at(at, at + 1, f"A ',' is missing here, or a '{closing}'")
            raise self.wrong_at(end, end + 1, f"The text ends before a '{closing}'", CUT_OFF)
        after = self._blank(end + 1)
        if self._mark(after) == closing:
            raise self.wrong_at(end, end + 1, f"There is a ',' too many before the '{closing}'", "Delete it.")
        return after

    def _key(self, at: int) -> Value:
        if self._mark(at) != '"':
            self._no_value(at, "A name in double quotes is missing here")
        return self._scalar(at)[0]

    def _scalar(self, at: int) -> tuple[Value, int]:
        if not self._mark(at):
            self._no_value(at, "A value is missing here")
        try:
            value, end = self._decoder.raw_decode(self.text, at)
        except json.JSONDecodeError as error:
            if self._mark(at) == '"':
                raise self.wrong_at(error.pos, error.pos + 1, _STRINGS.get(error.msg, error.msg)) from None
            self._no_value(at, "A value is missing here")
        except ValueError:  # digits without end
            raise self.wrong_at(at, at + 1, "This number has too many digits") from None
        return Value(value, at, end), end

    def _no_value(self, at: int, words: str) -> NoReturn:
        mark = self._mark(at)
        hint = ""
        if not mark:
            words, hint = "The text ends too early", CUT_OFF
        elif mark in "'‘’“”":
            hint = 'Text goes in double quotes: "pi-1".'
        elif mark in "/#":
            hint = 'JSON has no comments; write "comment": "..." instead.'
        elif mark.isalpha():
            hint = "Text goes in double quotes; true, false and null are in small letters."
        raise self.wrong_at(at, at + 1, words, hint)

    def _no_number(self, word: str) -> NoReturn:
        raise json.JSONDecodeError(word, self.text, 0)

    def _mark(self, at: int) -> str:
        return self.text[at : at + 1]

    def _blank(self, at: int) -> int:
        while at < len(self.text) and self.text[at] in _BLANK:
            at += 1
        return at


CUT_OFF: Final = "It is cut off; save the plan again."
_STRINGS: Final = {
    "Unterminated string starting at": "This text has no closing quote",
    "Invalid control character at": "This text has a line break or a tab in it, or no closing quote",
}


class Fields:
    """The fields of an object: each is asked for by its name and kind, and wrong ones are shown."""

    def __init__(self, text: JsonText, value: Value, path: str, known: Sequence[str]) -> None:
        """``path``: of the object, "" for the whole; ``known``: names that it may have."""
        self._text = text
        self._value = value
        self._path = path
        if not isinstance(value.what, dict):
            raise text.wrong(value, f"{path or 'A plan'} is {kind_of(value)}, but should be an object: {{...}}")
        self._fields = value.what
        for key, field in value.what.items():
            if key not in known and not key.startswith("comment"):
                near = get_close_matches(key, known, 1)
                hint = f'Did you mean "{near[0]}"?' if near else f"It may have {', '.join(known)}."
                raise text.wrong_key(field, f'{path or "A plan"} has no "{shown(key)}"', hint)

    def has(self, key: str) -> bool:
        """Whether it is there and not null."""
        return key in self._fields and self._fields[key].what is not None

    def need(self, key: str) -> Value:
        if not self.has(key):
            raise self._text.wrong_at(
                self._value.start, self._value.start + 1, f'{self._path or "The plan"} has no "{shown(key)}"'
            )
        return self._fields[key]

    def wrong(self, key: str, words: str, hint: str = "") -> PlanError:
        return self._text.wrong(self.need(key), words, hint)

    def string(self, key: str) -> str:
        value = self.need(key)
        if not isinstance(value.what, str):
            raise self._text.wrong(value, f'"{shown(key)}" is {kind_of(value)}, but should be text in double quotes')
        if not value.what.strip():
            raise self._text.wrong(value, f'"{shown(key)}" is empty')
        if any("\ud800" <= one <= "\udfff" for one in value.what):
            raise self._text.wrong(value, f'"{shown(key)}" has half a character in it')
        return value.what

    def whole(self, key: str, least: int, most: int) -> int:
        value = self.need(key)
        if isinstance(value.what, bool) or not isinstance(value.what, int) or not least <= value.what <= most:
            raise self._text.wrong(
                value, f'"{shown(key)}" is {kind_of(value)}, but should be a whole number from {least} to {most:,}'
            )
        return value.what

    def number(self, key: str) -> float:
        """Finite and not below 0."""
        value = self.need(key)
        if isinstance(value.what, bool) or not isinstance(value.what, int | float):
            raise self._text.wrong(value, f'"{shown(key)}" is {kind_of(value)}, but should be a number')
        if not isfinite(_as_float(value.what)) or value.what < 0:
            raise self._text.wrong(
                value, f'"{shown(key)}" is {kind_of(value)}, but should be a number that is not below 0'
            )
        return float(value.what)

    def array(self, key: str) -> list[Value]:
        value = self.need(key)
        if not isinstance(value.what, list):
            raise self._text.wrong(value, f'"{shown(key)}" is {kind_of(value)}, but should be a list: [...]')
        return value.what


def _as_float(number: float) -> float:
    try:
        return float(number)
    except OverflowError:
        return float("inf")


def kind_of(value: Value) -> str:
    """What a value is, for words: its text where that is short."""
    match value.what:
        case None:
            return "null"
        case bool():
            return "true" if value.what else "false"
        case str():
            text = shown(value.what)
            return f'"{text}"' if len(text) <= _SHOWN else f'"{text[:_SHOWN]}…"'
        case int() | float():
            if isinstance(value.what, int) and not isfinite(_as_float(value.what)):
                return f"a number of {len(str(abs(value.what)))} digits"
            text = str(value.what) if abs(value.what) < 1e15 else f"{_as_float(value.what):g}"
            return text[:_SHOWN]
        case list():
            return "a list"
        case _:
            return "an object"


def shown(text: str) -> str:
    """Without characters that would disturb a terminal or the marks under a line."""
    return "".join(one if one.isprintable() else " " if one.isspace() else "?" for one in text)


def _columns(text: str) -> int:
    """On a terminal."""
    return sum(
        0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text
    )
