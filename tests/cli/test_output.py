from __future__ import annotations

import io

from core.commands.output import Progress, format_table


def test_numbers_are_set_to_the_right_and_words_to_the_left() -> None:
    table = format_table(("name", "items"), [("pi-1", "7"), ("workstation", "1200")])
    assert table.splitlines() == ["name         items", "pi-1             7", "workstation   1200"]


def test_numbers_may_have_a_sign_and_a_unit_and_words_may_begin_with_a_number() -> None:
    table = format_table(("share", "change", "of"), [("<0.1 %", "+5", "4 % of it"), ("12 %", "–", "all")])
    assert table.splitlines() == [" share  change  of", "<0.1 %      +5  4 % of it", "  12 %       –  all"]


def test_an_empty_table_is_its_headings() -> None:
    assert format_table(("name", "items"), []) == "name  items"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_one_line_that_is_written_over() -> None:
    stream = Terminal()
    with Progress(stream) as progress:
        progress.step("Running")
        progress.share(1.0, "8 items")
    text = stream.getvalue()
    assert "\n" not in text
    assert "Running [########################] 100% 8 items" in text
    assert text.endswith("\r")


def test_a_file_gets_one_line_a_step() -> None:
    stream = io.StringIO()
    with Progress(stream) as progress:
        progress.step("Running")
        progress.share(0.5)
        progress.share(1.0)
    assert stream.getvalue() == "Running ...\n"
