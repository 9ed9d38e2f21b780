from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

PURE: Final = frozenset({"cost", "model", "plan"})
"""Folders whose tests start no agents and open no windows: several processes may run them side by side."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests that share the machine's ports, names and cores run one after the other, in one process."""
    here = Path(__file__).parent
    for item in items:
        if item.path.relative_to(here).parts[0] not in PURE:
            item.add_marker(pytest.mark.xdist_group("machine"))
        elif item.get_closest_marker("exports") is not None:
            item.add_marker(pytest.mark.xdist_group("exports"))  # each process builds its own


@pytest.fixture(scope="session", autouse=True)
def session_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keys, paired nodes, caches and history of the tests are their own."""
    home = tmp_path_factory.mktemp("session-home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHARDBOARD_HOME", str(home))
        yield home


@pytest.fixture(scope="session")
def exports_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the PyTorch exports of this session lie: each is built once."""
    return tmp_path_factory.mktemp("exports")
