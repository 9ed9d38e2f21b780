"""Command line and output that every benchmark has."""

from __future__ import annotations

import argparse
import json

from tests.bench.limits import machine


def options(doc: str | None, *, model: str, micro_batch: int) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=model)
    parser.add_argument("--micro-batch", type=int, default=micro_batch)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0)
    return parser.parse_args()


def emit(name: str, chosen: argparse.Namespace, **figures: object) -> None:
    """One JSON object on standard output."""
    print(json.dumps({"benchmark": name, **vars(chosen), **figures, "machine": machine()}))
