"""``python -m agent`` and ``shardboard-agent``."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from agent.daemon import run_agent
from agent.options import parse_options
from core.errors import ShardboardError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the agent until it is told to stop. Returns the exit code: 0, or 2 with words on stderr."""
    options = parse_options(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    try:
        return run_agent(options)
    except ShardboardError as error:
        print(f"shardboard-agent: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
