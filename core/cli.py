"""The `shardboard` command: reads the arguments, runs one subcommand, turns errors into words and exit codes.

0 done · 2 bad usage or input · 3 cannot place (and why) · 4 the job failed · 130 stopped with Ctrl-C

A subcommand is a module of ``core.commands`` with ``run(options) -> int``; it is imported only when it is called, so
that light ones start quickly and a machine without onnx can still use them.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Final

from core.commands.parser import build_parser
from core.errors import Cancelled, InputError, ShardboardError

INTERRUPTED: Final = 130
BROKEN: Final = 4
_WORKSTATION_PACKAGES: Final = frozenset({"onnx", "onnx_ir", "PIL", "PySide6", "pyqtgraph"})


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command of ``argv`` (sys.argv[1:] when None) and returns its exit code."""
    options = build_parser().parse_args(argv)
    try:
        command = importlib.import_module(f"core.commands.{options.module}")
        return int(command.run(options))
    except KeyboardInterrupt:
        return _say("Stopped.", INTERRUPTED)
    except Cancelled as stopped:
        return _say(str(stopped), INTERRUPTED)
    except ShardboardError as error:
        return _say(f"error: {error}", error.exit_code)
    except ModuleNotFoundError as error:
        return _missing(error)
    except BrokenPipeError:
        return _closed_output()
    except Exception as error:  # noqa: BLE001 - the last line of defence: our own bug, told as such
        return _our_bug(error)


def _say(words: str, code: int) -> int:
    print(words, file=sys.stderr)
    return code


def _missing(error: ModuleNotFoundError) -> int:
    package = (error.name or "").partition(".")[0]
    if package not in _WORKSTATION_PACKAGES:
        return _our_bug(error)
    return _say(
        f"error: This needs the package {package}, which is not installed. Run: pip install 'shardboard[gui]'",
        InputError.exit_code,
    )


def _closed_output() -> int:
    """Whoever read our output stopped reading (``| head``): not an error of ours, and nothing more can be said."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _our_bug(error: BaseException) -> int:
    from core.paths import cache_dir  # noqa: PLC0415 - only here

    report = cache_dir() / "last-bug.txt"
    report.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    return _say(
        f"error: This is a bug in Shardboard, not something you did: {type(error).__name__}: {error}\n"
        f"Please report it with the file {report}",
        BROKEN,
    )


if __name__ == "__main__":
    sys.exit(main())
