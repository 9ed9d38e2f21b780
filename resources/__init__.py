"""What ships besides code: small trained models, sample inputs, icons, and the scripts that made them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

RESOURCES: Final = Path(__file__).resolve().parent
"""The folder of this package, on disk."""


def resource_path(*parts: str) -> Path:
    """The path of a shipped file or folder, ``resource_path("models", "digits-cnn.onnx")``."""
    return RESOURCES.joinpath(*parts)
