"""Latency of one picture of 224 by 224 divided between two nodes, against one node; encryption is on.

python -m tests.bench.spatial [--model vgg] [--repeats 3] [--seconds 10]

"vgg" is a stack of convolutions, built here; other names are as on the command line.
"""

from __future__ import annotations

from tests.bench.groups import compare
from tests.bench.options import options

AIMS = {"vgg": 1.7}


def main() -> None:
    compare("spatial", "spatial", options(__doc__, model="vgg", micro_batch=1), AIMS)


if __name__ == "__main__":
    main()
