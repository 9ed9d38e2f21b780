"""The agent's command line: defaults, every option, and refusals in words with exit code 2."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.options import Options, parse_options, usable_cores
from core import __version__


def test_defaults_need_nothing() -> None:
    options = parse_options([])
    assert options.name
    assert options.threads == usable_cores() >= 1
    assert options == Options(
        name=options.name, bind="0.0.0.0", port=7420, threads=options.threads, memory_limit=None, cpu_limit=1.0,
        link_limit=0, state_dir=None, key_file=None, announce=True, pin=None, ready_json=False, exit_with_stdin=False,
        blob_limit=20 * 1024**3,
    )  # fmt: skip


def test_every_option(tmp_path: Path) -> None:
    core = min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    options = parse_options(
        f"--name pi-1 --bind 192.168.1.20 --port 0 --threads 2 --pin {core} --memory-limit 512M --cpu-limit 50% "
        f"--link-limit 100mbit --blob-limit 2G --state-dir {tmp_path} --key-file {tmp_path / 'k'} --no-announce "
        "--ready-json --exit-with-stdin".split()
    )
    assert options == Options(
        name="pi-1", bind="192.168.1.20", port=0, threads=2, memory_limit=512 * 1024**2, cpu_limit=0.5,
        link_limit=100_000_000, state_dir=tmp_path, key_file=tmp_path / "k", announce=False, pin=core, ready_json=True,
        exit_with_stdin=True, blob_limit=2 * 1024**3,
    )  # fmt: skip


def test_a_pinned_agent_has_one_thread_unless_told_otherwise() -> None:
    core = str(min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0)
    assert parse_options(["--pin", core]).threads == 1
    assert parse_options(["--pin", core, "--threads", "3"]).threads == 3


def test_any_interface_may_be_written_as_a_star() -> None:
    assert parse_options(["--bind", "*"]).bind == "0.0.0.0"


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--port", "-1"], "--port"),
        (["--port", "65534"], "65533"),
        (["--port", "http"], '"http" is not a port'),
        (["--threads", "0"], "from 1 to 1024"),
        (["--threads", "two"], '"two" is not a thread count'),
        (["--cpu-limit", "0"], "is not a share"),
        (["--cpu-limit", "200%"], "at most 1"),
        (["--cpu-limit", "0.1%"], "the least is 1%"),
        (["--link-limit", "fast"], "100mbit"),
        (["--link-limit", "10"], "the least is 1000 bit/s"),
        (["--memory-limit", "lots"], "512M"),
        (["--memory-limit", "1M"], "the least is 16M"),
        (["--blob-limit", "0"], "too small"),
        (["--bind", "localhost"], "not an IPv4 address"),
        (["--name", "two\nlines"], "printable"),
        (["--name", ""], "printable"),
        (["--name", "x" * 64], "63 bytes"),
        (["--pin", "9999"], "not a core"),
        (["--unknown"], "unrecognized arguments"),
        (["--thread", "2"], "unrecognized arguments"),
        (["extra"], "unrecognized arguments"),
    ],
)
def test_what_makes_no_sense_exits_2_in_words(argv: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_options(argv)
    assert caught.value.code == 2
    error = capsys.readouterr()
    assert words in error.err
    assert error.out == ""


def test_help_shows_every_option_with_its_default_and_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_options(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert "examples:" in text
    for words in ("default: 7420", "default: 20G", "default: 100%", "default: the host name", "like 50% or 0.5"):
        assert words in text.replace("\n", " ").replace("  ", " ") or words in " ".join(text.split())


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_options(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"shardboard-agent {__version__}\n"
