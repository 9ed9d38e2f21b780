"""The text of a strategy: "replicate(2) > pipeline(2) > tensor(2)", with the nodes by name where a person chose them.

    strategy  level ( ">" level )* [ "@" name ( "," name )* ]      outermost level first
    level     kind [ "(" count ")" ]                               at most one without a count: it gets what is left
    kind      replicate | pipeline | tensor | spatial              or single, alone
    name      a word, or in quotes: "lab 3", 'lab 3', "12"

Names in the parentheses of the innermost level stand for the same names after "@": all nodes in order, where the
outermost level varies slowest. Case and white space do not matter.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Sequence
from itertools import takewhile
from math import prod
from typing import Final

from msgspec import Struct

from core.errors import PlanError

SINGLE: Final = "single"
REPLICATE: Final = "replicate"
PIPELINE: Final = "pipeline"
TENSOR: Final = "tensor"
SPATIAL: Final = "spatial"
KINDS: Final = (REPLICATE, PIPELINE, TENSOR, SPATIAL)
"""Those that can be nested."""

_TOKEN: Final = re.compile(
    r"""\s*(?:(?P<mark>[()>@,])|(?P<quoted>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(?P<word>[^\s()>@,"'][^\s()>@,"]*)|(?P<other>\S|\Z))""",
    re.DOTALL,
)
_NUMBER: Final = re.compile(r"[-+]?[0-9]*[.]?[0-9]+")
_BARE: Final = re.compile(r"""[^\s()>@,"'][^\s()>@,"]*""")
_MOST_DIGITS: Final = 6
_WINDOW: Final = 60
"""Characters of a long text that are shown on each side of a mistake."""


class Level(Struct, frozen=True):
    kind: str
    count: int
    """Groups, stages or ranks that the level above is divided into; 1 divides nothing."""


class Levels(Struct, frozen=True):
    """A strategy settled for a number of nodes."""

    levels: tuple[Level, ...]
    """Outermost first."""
    nodes: tuple[str, ...] | None = None
    """Names in order, the outermost level varies slowest; None where the text leaves them open."""

    @property
    def count(self) -> int:
        """Nodes that it needs."""
        return prod(level.count for level in self.levels)

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(level.kind for level in self.levels)

    @property
    def group(self) -> int:
        """Nodes that work on the same layers: those of the innermost tensor and spatial levels. 1: there are none."""
        dividing = takewhile(lambda level: level.kind in {TENSOR, SPATIAL}, reversed(self.levels))
        return prod(level.count for level in dividing)


class Written(Struct, frozen=True):
    """A strategy as it was written, before the number of nodes is known."""

    text: str
    kinds: tuple[str, ...]
    counts: tuple[int | None, ...]
    """None: what is left."""
    nodes: tuple[str, ...] | None
    places: tuple[tuple[int, int], ...] = ()
    """Where in ``text`` each of ``nodes`` stands."""


def parse_strategy(text: str, nodes: int, names: Sequence[str] = ()) -> Levels:
    """Read ``text`` and settle it for ``nodes`` nodes; where it names nodes, those are taken out of ``names``.

    Without ``names`` any name will do. Raises PlanError that shows the place and says what was expected there.
    """
    return settled(read_strategy(text), nodes, names)


def format_strategy(levels: Levels) -> str:
    """The canonical text; ``parse_strategy`` gives ``levels`` back for as many nodes. One level needs no count."""
    if len(levels.levels) == 1:
        text = levels.levels[0].kind
    else:
        text = _nested([(level.kind, level.count) for level in levels.levels])
    if levels.nodes is None:
        return text
    return f"{text} @ {', '.join(_quoted(name) for name in levels.nodes)}"


def simplified(levels: Levels) -> Levels:
    """The same division without levels that divide nothing, as long as one is left."""
    dividing = tuple(level for level in levels.levels if level.count > 1)
    return Levels(dividing or levels.levels[-1:], levels.nodes)


# ---------------------------------------------------------------- reading


def read_strategy(text: str) -> Written:
    """The syntax alone. Raises PlanError that shows the place."""
    return _Reader(text).strategy()


class _Token(Struct, frozen=True):
    kind: str
    """mark | word | quoted | end"""
    text: str
    start: int
    stop: int


class _Reader:
    """Goes through the text once, from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._next = self._token()

    def strategy(self) -> Written:
        if self._next.kind == "end":
            raise PlanError("The strategy is empty.", hint=f"Choose from {', '.join((SINGLE, *KINDS))}.")
        kinds: list[str] = []
        counts: list[int | None] = []
        open_level: _Token | None = None
        names: list[_Token] = []
        while True:
            kind = self._kind(alone=not kinds)
            if names:
                raise self._wrong(names[0], "Only the innermost level, the last one, names nodes.")
            count, names = self._in_parentheses(kind)
            if count is None and open_level is not None:
                raise self._wrong(
                    kind,
                    f"{open_level.text.lower()} and {kind.text.lower()} both have no count; one level at most may.",
                    "Write a number in parentheses." if not names else "Give the other levels a count.",
                )
            open_level = kind if count is None else open_level
            kinds.append(kind.text.lower())
            counts.append(count)
            if not self._take(">"):
                break
            if SINGLE in kinds:
                raise self._wrong(kind, "single stands alone: it divides nothing.")
        names = self._after_at(names)
        self._expect_end(named=bool(names))
        return Written(
            self._text,
            tuple(kinds),
            tuple(counts),
            tuple(_name(token) for token in names) if names else None,
            tuple((token.start, token.stop) for token in names),
        )

    def _kind(self, *, alone: bool) -> _Token:
        token = self._advance()
        known = (SINGLE, *KINDS) if alone else KINDS
        expected = f"expected {_either(known)}"
        if token.kind == "end":
            raise self._wrong(token, f"A level is missing at the end; {expected}.")
        word = token.text.lower()
        if token.kind != "word":
            raise self._wrong(token, f"A level cannot begin with {_shown(token.text)}; {expected}.")
        if word in known:
            return token
        if word == SINGLE:
            raise self._wrong(token, "single stands alone: it divides nothing.")
        if word == "hybrid":
            raise self._wrong(token, "A hybrid is written as its levels.", "For instance: replicate(2) > tensor(2).")
        if word == "auto":
            raise self._wrong(token, "auto stands alone, without counts or other levels.")
        near = difflib.get_close_matches(word, known, 1)
        hint = f"Did you mean {near[0]}?" if near else ""
        raise self._wrong(token, f"There is no strategy '{_shown(token.text)}'; {expected}.", hint)

    def _in_parentheses(self, level: _Token) -> tuple[int | None, list[_Token]]:
        """A count, or names of nodes, or neither."""
        if not self._take("("):
            return None, []
        token = self._next
        if not _is_number(token):
            names = self._names(f"Expected a number or names of nodes after {level.text.lower()}(")
            self._expect_closing("',' or ')'")
            return None, names
        self._advance()
        count = self._count(token, level.text.lower())
        self._expect_closing("')' after the count")
        return count, []

    def _count(self, token: _Token, kind: str) -> int:
        if not token.text.isdecimal() or int(token.text[:_MOST_DIGITS]) == 0:
            raise self._wrong(token, f"A count is a whole number from 1 on, not {_shown(token.text)}.")
        if len(token.text) > _MOST_DIGITS:
            raise self._wrong(token, "No cluster has so many nodes.")
        count = int(token.text)
        if kind == SINGLE and count != 1:
            raise self._wrong(token, f"single runs on one node, not on {count}.")
        return count

    def _names(self, expected: str) -> list[_Token]:
        found: list[_Token] = []
        while True:
            token = self._advance()
            if _is_number(token):
                raise self._wrong(token, "Expected the name of a node.", "A name that is a number goes in quotes.")
            if token.kind not in {"word", "quoted"} or not _name(token):
                raise self._wrong(token, f"{expected}." if not found else "Expected the name of a node.")
            if _name(token) in map(_name, found):
                raise self._wrong(token, f"Node {_shown(_name(token))} is named twice.", "Name each node once.")
            found.append(token)
            if not self._take(","):
                return found

    def _after_at(self, names: list[_Token]) -> list[_Token]:
        place = self._next
        if not self._take("@"):
            return names
        if names:
            raise self._wrong(place, "The nodes are named already, in parentheses.")
        return self._names("Expected the name of a node after '@'")

    def _expect_closing(self, what: str) -> None:
        token = self._next
        if not self._take(")"):
            hint = "A name with spaces goes in quotes." if token.kind in {"word", "quoted"} else ""
            raise self._wrong(token, f"Expected {what}.", hint)

    def _expect_end(self, *, named: bool) -> None:
        token = self._next
        if token.kind == "end":
            return
        if named:
            hint = "A name with spaces goes in quotes." if token.kind in {"word", "quoted"} else ""
            raise self._wrong(token, "Expected ',' or the end.", hint)
        hint = "A count goes in parentheses." if _is_number(token) else ""
        raise self._wrong(token, "Expected '>' and another level, '@' and names of nodes, or the end.", hint)

    def _take(self, mark: str) -> bool:
        if self._next.kind == "mark" and self._next.text == mark:
            self._advance()
            return True
        return False

    def _advance(self) -> _Token:
        token = self._next
        self._next = self._token()
        return token

    def _token(self) -> _Token:
        match = _TOKEN.match(self._text, self._at)
        assert match is not None, "every text begins with a token"
        kind = match.lastgroup or ""
        start, stop = match.span(kind)
        self._at = stop
        if kind == "other":
            if start != stop:
                raise self._wrong(_Token(kind, match[kind], start, len(self._text)), "This quote is never closed.")
            kind = "end"
        return _Token(kind, match[match.lastgroup or 0], start, stop)

    def _wrong(self, token: _Token, words: str, hint: str = "") -> PlanError:
        return _at_place(self._text, token.start, token.stop, words, hint)


def _is_number(token: _Token) -> bool:
    return token.kind == "word" and _NUMBER.fullmatch(token.text) is not None


def _name(token: _Token) -> str:
    return re.sub(r"\\(.)", r"\1", token.text[1:-1], flags=re.DOTALL) if token.kind == "quoted" else token.text


def _quoted(name: str) -> str:
    if _BARE.fullmatch(name) and not _NUMBER.fullmatch(name):
        return name
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


# ---------------------------------------------------------------- settling


def settled(written: Written, nodes: int, names: Sequence[str] = ()) -> Levels:
    """Counts for ``nodes`` nodes, or for those that it names. Raises PlanError as ``parse_strategy``."""
    chosen = _matched(written, names) if written.nodes is not None else None
    if chosen is not None and len(chosen) > nodes:
        raise PlanError(f"The strategy names {len(chosen)} nodes; {_are(nodes)} given.")
    there = len(chosen) if chosen is not None else nodes
    verb = "named" if chosen is not None else "given"
    counts = list(written.counts)
    fixed = prod(count for count in counts if count is not None)
    if written.kinds == (SINGLE,):
        counts = [1]
    elif None in counts:
        left, rest = divmod(there, fixed)
        if rest or not left:
            raise PlanError(
                f"{_plain(written)} needs a multiple of {fixed} nodes; {_are(there)} {verb}.",
                hint=_mend(_other_counts(written, there)),
            )
        counts[counts.index(None)] = left
    whole = [count for count in counts if count is not None]
    if prod(whole) != there:
        needed = f"{prod(whole)} node{'s' if prod(whole) != 1 else ''}"
        raise PlanError(
            f"{_plain(written)} needs {needed}; {_are(there)} {verb}.",
            hint=_mend(_other_counts(written, there), _use_fewer(written, prod(whole), there, names)),
        )
    return Levels(tuple(map(Level, written.kinds, whole)), chosen)


def _matched(written: Written, names: Sequence[str]) -> tuple[str, ...]:
    """The nodes' own spelling of the names that were written."""
    assert written.nodes is not None
    if not names:
        return written.nodes
    found: list[str] = []
    for name, (start, stop) in zip(written.nodes, written.places, strict=True):
        alike = [one for one in names if one == name] or [one for one in names if one.casefold() == name.casefold()]
        if not alike:
            near = difflib.get_close_matches(name.casefold(), [one.casefold() for one in names], 1)
            suggestion = next((one for one in names if near and one.casefold() == near[0]), None)
            hint = f"Did you mean {_shown(suggestion)}?" if suggestion else f"There are {_shown(', '.join(names))}."
            raise _at_place(written.text, start, stop, f"There is no node called {_shown(name)}.", hint)
        if len(alike) > 1:
            words = f"{len(alike)} nodes are called {_shown(name)}."
            raise _at_place(written.text, start, stop, words, "Give them different names.")
        if alike[0] in found:
            raise _at_place(
                written.text, start, stop, f"Node {_shown(alike[0])} is named twice.", "Name each node once."
            )
        found.append(alike[0])
    return tuple(found)


def _other_counts(written: Written, there: int) -> str:
    """The same levels with one count changed so that they fit."""
    fitting = []
    for index in range(len(written.counts)):
        others = [count or 1 for place, count in enumerate(written.counts) if place != index]
        if there and there % prod(others) == 0:
            counts = [*others[:index], there // prod(others), *others[index:]]
            fitting.append(_nested(list(zip(written.kinds, counts, strict=True))))
    useful = [text for text in fitting if "(1)" not in text]
    return f"write {' or '.join(useful)}" if useful and written.kinds != (SINGLE,) else ""


def _use_fewer(written: Written, needed: int, there: int, names: Sequence[str]) -> str:
    if there > needed and names and written.nodes is None:
        return f"name those to use: {_plain(written)} @ {', '.join(_quoted(name) for name in names[:needed])}"
    return ""


def _mend(*ways: str) -> str:
    words = ", or ".join(filter(None, ways)) or "change the counts or the number of nodes"
    return f"{words[0].upper()}{words[1:]}."


def _plain(written: Written) -> str:
    return _nested(list(zip(written.kinds, written.counts, strict=True)))


def _nested(levels: Sequence[tuple[str, int | None]]) -> str:
    return " > ".join(kind if count is None else f"{kind}({count})" for kind, count in levels)


# ---------------------------------------------------------------- words


def _at_place(text: str, start: int, stop: int, words: str, hint: str = "") -> PlanError:
    """The words, and under them the text with the place marked."""
    first, last = max(0, start - _WINDOW), min(len(text), max(stop, start) + _WINDOW)
    before, marked, after = _shown(text[first:start]), _shown(text[start:stop][:_WINDOW]), _shown(text[stop:last])
    cut = ("…" if first else "", "…" if last < len(text) else "")
    indent = " " * (_width(cut[0]) + _width(before))
    return PlanError(
        f"{words}\n    {cut[0]}{before}{marked}{after}{cut[1]}\n    {indent}{'^' * max(1, _width(marked))}", hint=hint
    )


def _shown(text: str) -> str:
    """Without characters that would disturb a terminal or the marks below."""
    return "".join(one if one.isprintable() else " " if one.isspace() else "?" for one in text)


def _width(text: str) -> int:
    """Columns on a terminal."""
    return sum(
        0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text
    )


def _either(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


def _are(count: int) -> str:
    return f"{count} is" if count == 1 else f"{count} are"
