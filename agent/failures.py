"""The failure an agent answers with: a stable code for programs and words for people.

``code`` is one of those listed at ``core.wire.messages.Failure``:
version | untrusted | owned | memory | blob | model | shard | link | field | busy | internal.
"""

from __future__ import annotations

from core.wire.messages import Failure


class AgentFailureError(Exception):
    """What was asked of this agent cannot be done; the one who asked gets it as ``Failure`` or ``ShardFailed``."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def as_failure(self) -> Failure:
        return Failure(self.code, self.message)
