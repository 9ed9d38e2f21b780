"""What this machine is, for people and for planning."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Final

import psutil

from agent.executor import ENGINE
from agent.options import Options
from core import __version__
from core.plan.form import NodeId
from core.wire.messages import NodeInfo

_CPUINFO: Final = Path("/proc/cpuinfo")


def describe(node: NodeId, options: Options, data_port: int) -> NodeInfo:
    total = int(psutil.virtual_memory().total)
    return NodeInfo(
        id=node,
        name=options.name,
        version=__version__,
        hostname=platform.node(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        cpu=cpu_name(),
        cores=os.cpu_count() or 1,
        threads=options.threads,
        memory_total=total,
        memory_limit=min(total, options.memory_limit or total),
        cpu_limit=options.cpu_limit,
        link_limit=options.link_limit,
        data_port=data_port,
        engine=ENGINE,
        pinned=_pinned(),
    )


def cpu_name() -> str:
    """The processor's model, or its architecture where the system does not tell."""
    try:
        lines = _CPUINFO.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model")))
    return next(names, "") or platform.processor() or platform.machine()


def _pinned() -> int | None:
    """The core that this process is bound to, where it is just one of several."""
    affinity = getattr(psutil.Process(), "cpu_affinity", None)
    cores = affinity() if affinity is not None else []
    return int(cores[0]) if len(cores) == 1 < (os.cpu_count() or 1) else None


def pin_to(core: int) -> bool:
    """Bind this process, and the threads it will start, to one logical core. False where the system cannot."""
    pin = getattr(psutil.Process(), "cpu_affinity", None)
    if pin is None:
        return False
    pin([core])
    return True
