"""What the frozen panel starts: the ``shardboard`` command, which starts itself again as the window and as agents.

Installed, those are ``python -m gui`` and ``python -m agent``; frozen, sys.executable is this program, so it answers
to the same words. Each process imports only what it is: an agent loads no Qt.
"""

from __future__ import annotations

import runpy
import sys

from core.cli import main as shardboard

MODULES = ("agent", "gui")


def main() -> int:
    if len(sys.argv) > 2 and sys.argv[1] == "-m" and sys.argv[2] in MODULES:
        module = sys.argv[2]
        del sys.argv[1:3]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        return 0
    return shardboard()


if __name__ == "__main__":
    sys.exit(main())
