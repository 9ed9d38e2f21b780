"""Shardboard's engine: models, plans, costs, wire, cluster and runs. No Qt, no window, no words for translation."""

from typing import Final

__version__: Final = "0.1.0"
PROTOCOL_VERSION: Final = 1
"""Raised whenever a message changes shape; an agent of another protocol version is shown as incompatible."""
