"""What the command line says of itself, and of options that are not as they should be."""

from __future__ import annotations

import pytest

from core.commands.parser import build_parser
from core.model.library import library
from tests.cli.test_commands import MODEL, run

COMMANDS = ("demo", "nodes", "plan", "run", "bench", "doctor", "pair")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_told(capsys: pytest.CaptureFixture[str], command: str) -> None:
    code, out, _ = run(capsys, command, "--help")
    assert code == 0
    assert f"usage: shardboard {command} " in out
    (commands,) = [action for action in build_parser()._actions if action.metavar == "COMMAND"]
    assert commands.choices is not None
    actions = commands.choices[command]._actions  # type: ignore[index, call-overload]
    assert all(action.help for action in actions), [action.dest for action in actions if not action.help]


def test_every_model_of_the_library_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "plan", "--help")
    words = "".join(out.split())  # names may be broken at their hyphens
    assert [entry.key for entry in library() if entry.kind != "recent" and entry.key not in words] == []


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("--latency-bound",), "argument --latency-bound: its value is missing: --latency-bound MS (only plans that"),
        (("--batch",), "argument --batch: its value is missing: --batch N (items that travel together"),
        (("--objective", "bounded"), '"bounded" is no objective; choose throughput, latency or memory. For throughput'),
    ],
)
def test_a_value_that_is_missing_or_wrong_is_told_by_what_it_should_be(
    capsys: pytest.CaptureFixture[str], argv: tuple[str, ...], words: str
) -> None:
    code, _, err = run(capsys, "plan", MODEL, "--local", "2", *argv)
    assert code == 2
    assert words in err
