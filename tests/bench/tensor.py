"""Latency of one item with every layer divided between two nodes, against one node; encryption is on.

python -m tests.bench.tensor [--model bert-base] [--repeats 3] [--seconds 10]

"mlp" is a perceptron of 4096-4096-4096, built here; other names are as on the command line.
"""

from __future__ import annotations

from tests.bench.groups import compare
from tests.bench.options import options

AIMS = {"bert-base": 1.5, "mlp": 1.7}


def main() -> None:
    compare("tensor", "tensor", options(__doc__, model="bert-base", micro_batch=1), AIMS)


if __name__ == "__main__":
    main()
