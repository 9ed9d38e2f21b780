"""Where Shardboard keeps its files. ``SHARDBOARD_HOME`` moves everything under one folder."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

_APP = "shardboard"
_ENV = "SHARDBOARD_HOME"


def config_dir() -> Path:
    """Keys, paired nodes, remembered settings; created when missing, readable by this user only."""
    return _folder("config", platformdirs.user_config_dir(_APP, appauthor=False))


def cache_dir() -> Path:
    """What can be made again: profiles, reference models, hashes; created when missing."""
    return _folder("cache", platformdirs.user_cache_dir(_APP, appauthor=False))


def data_dir() -> Path:
    """The history and an agent's own state; created when missing, readable by this user only."""
    return _folder("data", platformdirs.user_data_dir(_APP, appauthor=False))


def _folder(kind: str, default: str) -> Path:
    home = os.environ.get(_ENV)
    folder = Path(home).expanduser() / kind if home else Path(default)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder
