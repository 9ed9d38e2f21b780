from __future__ import annotations

from math import prod

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from core.errors import PlanError
from core.plan.strategy_text import KINDS, Level, Levels, format_strategy, parse_strategy, read_strategy, simplified

LAB = ("local-1", "local-2", "local-3", "Pi 4", "5")


def levels(*parts: tuple[str, int], nodes: tuple[str, ...] | None = None) -> Levels:
    return Levels(tuple(Level(kind, count) for kind, count in parts), nodes)


@pytest.mark.parametrize(
    ("text", "nodes", "expected"),
    [
        ("tensor", 3, levels(("tensor", 3))),
        ("single", 1, levels(("single", 1))),
        ("single(1)", 1, levels(("single", 1))),
        (
            "replicate(2) > pipeline(2) > tensor(2)",
            8,
            levels(("replicate", 2), ("pipeline", 2), ("tensor", 2)),
        ),
        (" Replicate( 2 )>\n\tTENSOR", 6, levels(("replicate", 2), ("tensor", 3))),
        ("pipeline > tensor(2)", 6, levels(("pipeline", 3), ("tensor", 2))),
        ("tensor(2) > spatial(2)", 4, levels(("tensor", 2), ("spatial", 2))),
        ("replicate(1) > spatial(2)", 2, levels(("replicate", 1), ("spatial", 2))),
        ("tensor(2) > tensor", 2, levels(("tensor", 2), ("tensor", 1))),
    ],
)
def test_counts_are_read_and_the_open_one_gets_what_is_left(text: str, nodes: int, expected: Levels) -> None:
    assert parse_strategy(text, nodes) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pipeline(local-2, local-1)", levels(("pipeline", 2), nodes=("local-2", "local-1"))),
        ("tensor @ LOCAL-1,'pi 4'", levels(("tensor", 2), nodes=("local-1", "Pi 4"))),
        ('single @ "5"', levels(("single", 1), nodes=("5",))),
        (
            "replicate(2) > tensor(2) @ local-3, local-2, 'Pi 4', local-1",
            levels(("replicate", 2), ("tensor", 2), nodes=("local-3", "local-2", "Pi 4", "local-1")),
        ),
        (
            "replicate(2) > tensor(local-3, local-2, 'Pi 4', local-1)",
            levels(("replicate", 2), ("tensor", 2), nodes=("local-3", "local-2", "Pi 4", "local-1")),
        ),
    ],
)
def test_named_nodes_are_some_of_those_given_in_their_own_spelling(text: str, expected: Levels) -> None:
    assert parse_strategy(text, len(LAB), LAB) == expected


def test_a_name_that_differs_in_case_alone_is_told_from_another() -> None:
    assert parse_strategy("tensor @ pi, PI", 2, ("PI", "pi")).nodes == ("pi", "PI")


BAD = [
    # text, the place that is marked, what the sentence says, what the hint says
    (
        "tesnor",
        "tesnor",
        "There is no strategy 'tesnor'; expected single, replicate, pipeline, tensor or",
        "mean tensor?",
    ),
    ("replicate(2) > spatail(2)", "spatail", "expected replicate, pipeline, tensor or spatial", "mean spatial?"),
    ("pipeline > > tensor", "> tensor", "cannot begin with >", ""),
    ("pipeline(2) >", "", "missing at the end", ""),
    ("tensor 2", "2", "Expected '>'", "in parentheses"),
    ("tensor(2", "", "Expected ')' after the count", ""),
    ("tensor(2) tensor(2)", "tensor(2)$", "Expected '>' and another level", ""),
    ("tensor()", ")", "Expected a number or names of nodes", ""),
    ("tensor(0)", "0", "whole number from 1 on, not 0", ""),
    ("tensor(-2)", "-2", "whole number from 1 on, not -2", ""),
    ("tensor(1.5)", "1.5", "whole number from 1 on, not 1.5", ""),
    ("tensor(123456789)", "123456789", "No cluster", ""),
    ("tensor(2, local-1)", ",", "Expected ')' after the count", ""),
    ("pipeline > tensor", "tensor", "both have no count", "number in parentheses"),
    ("pipeline > tensor(local-1, local-2)", "tensor(", "both have no count", "other levels a count"),
    ("replicate(local-1, local-2) > tensor(2)", "local-1", "Only the innermost level", ""),
    ("tensor(local-1) @ local-2", "@", "named already", ""),
    ("tensor @", "", "name of a node after '@'", ""),
    ("tensor @ local-1,", "", "Expected the name of a node", ""),
    ("tensor @ ''", "''", "name of a node after '@'", ""),
    ("tensor @ 5, local-1", "5", "Expected the name of a node", "in quotes"),
    ("tensor @ Pi 4", "4", "Expected ',' or the end", "with spaces"),
    ("tensor(Pi 4)", "4)", "Expected ',' or ')'", "with spaces"),
    ("tensor @ 'Pi 4", "'Pi 4", "never closed", ""),
    ("tensor @ local-1, local-1", "local-1$", "local-1 is named twice", "once"),
    ("tensor @ local-1, LOCAL-1", "LOCAL-1", "local-1 is named twice", "once"),
    ("tensor @ local-1, loca-2", "loca-2", "no node called loca-2", "mean local-2?"),
    ("tensor @ local-1, zebra", "zebra", "no node called zebra", "There are local-1, local-2"),
    ("single > tensor(2)", "single", "stands alone", ""),
    ("tensor(2) > single", "single", "stands alone", ""),
    ("single(2)", "2", "one node, not on 2", ""),
    ("hybrid", "hybrid", "written as its levels", "replicate(2) > tensor(2)"),
    ("auto(2)", "auto", "stands alone", ""),
    ("tensor\x1b[31m", "tensor\x1b", "no strategy 'tensor?[31m'", "mean tensor?"),
]


@pytest.mark.parametrize(("text", "place", "sentence", "hint"), BAD, ids=[text for text, *_ in BAD])
def test_a_mistake_is_marked_under_the_text_and_told_what_was_expected(
    text: str, place: str, sentence: str, hint: str
) -> None:
    with pytest.raises(PlanError) as caught:
        parse_strategy(text, len(LAB), LAB)
    words, shown, marks = caught.value.message.split("\n")
    assert sentence in words
    assert hint in caught.value.hint
    assert bool(hint) == bool(caught.value.hint)
    assert shown == "    " + "".join(c if c.isprintable() else "?" for c in text)
    start = len(text) if not place else text.rindex(place[:-1]) if place.endswith("$") else text.index(place)
    assert marks.index("^") == start + 4


def test_marks_stand_under_wide_letters_and_in_a_window_of_a_long_text() -> None:
    with pytest.raises(PlanError) as caught:
        parse_strategy("tensor @ 机器, x x", 2)
    assert caught.value.message.split("\n")[1:] == ["    tensor @ 机器, x x", " " * 21 + "^"]
    with pytest.raises(PlanError) as caught:
        parse_strategy("tensor(2) > " * 500 + "rows" + " > tensor(2)" * 500, 2)
    _, shown, marks = caught.value.message.split("\n")
    assert len(shown) < 150
    assert shown[marks.index("^") : marks.rindex("^") + 1] == "rows"


@pytest.mark.parametrize(
    ("text", "nodes", "sentence", "hint"),
    [
        ("replicate(2) > tensor(2)", 3, "replicate(2) > tensor(2) needs 4 nodes; 3 are given.", "Change the counts"),
        (
            "replicate(2) > tensor(2)",
            6,
            "replicate(2) > tensor(2) needs 4 nodes; 6 are given.",
            "Write replicate(3) > tensor(2) or replicate(2) > tensor(3)",
        ),
        (
            "tensor(2)",
            5,
            "tensor(2) needs 2 nodes; 5 are given.",
            "tensor(5), or name those to use: tensor(2) @ local-1, local-2",
        ),
        ("tensor(2)", 1, "tensor(2) needs 2 nodes; 1 is given.", "Change the counts"),
        ("pipeline > tensor(2)", 5, "needs a multiple of 2 nodes; 5 are given.", "Change the counts"),
        ("pipeline(2) > tensor", 1, "needs a multiple of 2 nodes; 1 is given.", "Change the counts"),
        ("tensor(3) @ local-1, local-2", 5, "tensor(3) needs 3 nodes; 2 are named.", "Write tensor(2)."),
        ("tensor @ local-1, local-2", 1, "names 2 nodes; 1 is given.", ""),
        ("single", 2, "single needs 1 node; 2 are given.", "Name those to use: single @ local-1."),
    ],
)
def test_counts_must_make_up_the_nodes(text: str, nodes: int, sentence: str, hint: str) -> None:
    with pytest.raises(PlanError) as caught:
        parse_strategy(text, nodes, LAB)
    assert sentence in caught.value.message
    assert hint in caught.value.hint


def test_two_nodes_of_one_name_cannot_be_told_apart() -> None:
    with pytest.raises(PlanError, match="2 nodes are called pi"):
        parse_strategy("tensor @ pi, x", 3, ("pi", "pi", "x"))


@pytest.mark.parametrize("text", ["", " \n "])
def test_an_empty_text_is_no_strategy(text: str) -> None:
    with pytest.raises(PlanError, match="is empty"):
        parse_strategy(text, 1)


def test_levels_that_divide_nothing_can_be_left_out() -> None:
    assert simplified(levels(("replicate", 1), ("tensor", 2), ("spatial", 1))) == levels(("tensor", 2))
    assert simplified(levels(("replicate", 1), ("tensor", 1), nodes=("a",))) == levels(("tensor", 1), nodes=("a",))


def test_the_innermost_levels_that_divide_layers_make_a_group() -> None:
    assert levels(("replicate", 2), ("tensor", 2), ("spatial", 3)).group == 6
    assert levels(("tensor", 2), ("pipeline", 2), ("tensor", 3)).group == 3
    assert levels(("pipeline", 4)).group == 1


ANY_LEVELS = st.one_of(
    st.just((Level("single", 1),)),
    st.lists(st.builds(Level, st.sampled_from(KINDS), st.integers(1, 12)), min_size=1, max_size=5).map(tuple),
)


@st.composite
def named_levels(draw: st.DrawFn) -> Levels:
    made = draw(ANY_LEVELS)
    count = prod(level.count for level in made)
    if count > 20 or draw(st.booleans()):
        return Levels(made)
    names = draw(st.lists(st.text(min_size=1, max_size=8), min_size=count, max_size=count, unique=True))
    return Levels(made, tuple(names))


@settings(max_examples=200, derandomize=True, deadline=None)
@given(named_levels())
def test_the_canonical_text_reads_back(made: Levels) -> None:
    text = format_strategy(made)
    assert parse_strategy(text, made.count) == made
    assert parse_strategy(text, made.count, tuple(reversed(made.nodes or ()))) == made
    assert format_strategy(parse_strategy(text, made.count)) == text


PIECES = st.sampled_from(
    [
        *KINDS,
        "single",
        "(",
        ")",
        ">",
        "@",
        ",",
        "2",
        "0",
        " ",
        "a",
        "'",
        '"',
        "\\",
        "-1",
        "auto",
        "²",
        "９" * 5000,
        "\0",
    ]
)


@settings(max_examples=400, derandomize=True, deadline=None)
@given(
    st.one_of(st.text(), st.lists(PIECES, max_size=12).map("".join)),
    st.integers(-1, 9),
    st.lists(st.text(), max_size=3),
)
@example("tensor(" + "9" * 10_000 + ")", 2, [])
@example("tensor @ \udc80", 1, ["x"])
def test_any_other_text_is_refused_with_words(text: str, nodes: int, names: list[str]) -> None:
    try:
        found = parse_strategy(text, nodes, names)
    except PlanError as error:
        refused = error.message
    else:
        assert found.count == (nodes if found.nodes is None else len(found.nodes))
        assert parse_strategy(format_strategy(found), found.count, found.nodes or ()) == found
        return
    assert len(refused.split("\n")) in {1, 3}


def test_the_syntax_is_checked_before_the_number_of_nodes_is_known() -> None:
    written = read_strategy("replicate > tensor(2)")
    assert (written.kinds, written.counts, written.nodes) == (("replicate", "tensor"), (None, 2), None)
