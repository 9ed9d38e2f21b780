"""What the truth test keeps of each cell, in a file, so that it can be continued and cells can be repeated."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import msgspec
from msgspec import Struct

from core.plan.form import PlanRequest


class Cell(Struct, frozen=True, order=True):
    """One run of the truth test."""

    model: str
    agents: int
    link: str
    """"loopback", or the agents' link limit as the command line takes it."""
    strategy: str

    @property
    def case(self) -> tuple[str, int, str]:
        """What strategies are ranked in."""
        return self.model, self.agents, self.link

    @property
    def key(self) -> str:
        return f"{self.model} {self.agents} {self.link} {self.strategy}"


class Node(Struct, frozen=True):
    """One agent's part."""

    memory_bytes: int
    """Grown beside what the agent takes without shards."""
    busy: float
    """Share of the time in its shards."""
    cpu_s: float = 0.0
    """Processor time per micro-batch of the run, all threads; 0: not measured."""


class Figures(Struct, frozen=True):
    throughput: float
    """Items per second."""
    latency_s: float
    """One micro-batch at a time, median."""
    loaded_latency_s: float
    """Median with as many micro-batches under way as the runner allows by itself."""
    nodes: tuple[Node, ...]
    client_cpu_s: float = 0.0
    """As ``Node.cpu_s``, of the workstation's process."""
    foreign_cores: float = 0.0
    """Cores used by nobody here meanwhile."""
    cores_at_once: float = 1.0
    """As ``limits.cores_at_once``, right after."""
    memory_at_once: float = 0.0
    """Bytes per second, as ``limits.memory_at_once``, right after."""
    micro_batches: int = 0


class Kept(Struct, frozen=True):
    """A cell that was run, or refused."""

    cell: Cell
    when: float
    """Unix time."""
    micro_batch: int
    request: PlanRequest | None = None
    predicted: Figures | None = None
    measured: Figures | None = None
    refused: str = ""
    """Why this model or these nodes cannot take the strategy."""


class _File(Struct):
    cells: list[Kept] = []


class Cells:
    """The file. Written anew after each cell, atomically."""

    def __init__(self, path: Path, *, fresh: bool = False) -> None:
        self._path = path
        self._held: dict[Cell, Kept] = {}
        if not fresh and path.is_file():
            self._held = {kept.cell: kept for kept in msgspec.json.decode(path.read_bytes(), type=_File).cells}

    def __contains__(self, cell: Cell) -> bool:
        return cell in self._held

    def get(self, cell: Cell) -> Kept | None:
        return self._held.get(cell)

    def keep(self, kept: Kept) -> None:
        self._held[kept.cell] = kept
        partial = self._path.with_suffix(f".{os.getpid()}")
        partial.write_bytes(msgspec.json.format(msgspec.json.encode(_File(list(self._held.values()))), indent=1))
        partial.replace(self._path)

    def of(self, wanted: Iterable[Cell]) -> list[Kept]:
        return [self._held[cell] for cell in wanted if cell in self._held]
