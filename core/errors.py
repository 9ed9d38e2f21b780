"""Every error that reaches a person, and the exit code it gives on the command line.

ShardboardError                 exit 4
├── InputError                  exit 2   the person's input or usage: say what to change
│   ├── ModelError                       the model file cannot be read or run
│   ├── SourceError                      the input data does not fit the model
│   ├── SinkError                        the output cannot be written
│   └── PlanError                        the plan or strategy as asked for makes no sense for this model
├── PlacementError              exit 3   the work cannot be placed, and why
│   ├── NoNodesError                     nothing found, nothing trusted
│   ├── DoesNotFitError                  memory, with figures
│   └── NodeOwnedError                   another workstation's deployment holds the node
├── JobError                    exit 4   the work began and failed
│   ├── NodeLostError
│   ├── RemoteError                      an agent answered with a failure
│   └── VerificationError                the plan's output differs from the whole model's
├── WireError                   exit 4   the peer misbehaved or cannot be reached
│   ├── ProtocolError                    a message that breaks the rules; names the field
│   └── UnreachableError
└── Cancelled                   exit 4   the person stopped it
"""

from __future__ import annotations

from typing import ClassVar


class ShardboardError(Exception):
    """Base of all errors meant for people. ``code`` is stable and machine readable, ``hint`` says what to do."""

    exit_code: ClassVar[int] = 4
    code: ClassVar[str] = "error"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".rstrip()


class InputError(ShardboardError):
    exit_code = 2
    code = "input"


class ModelError(InputError):
    code = "model"


class SourceError(InputError):
    code = "source"


class SinkError(InputError):
    code = "sink"


class PlanError(InputError):
    code = "plan"


class PlacementError(ShardboardError):
    """``missed``: by how much the plan that comes nearest misses the limits, as (bytes of memory, seconds of latency);
    None where nothing is said of that."""

    exit_code = 3
    code = "placement"

    def __init__(self, message: str, *, hint: str = "", missed: tuple[int, float] | None = None) -> None:
        super().__init__(message, hint=hint)
        self.missed = missed


class NoNodesError(PlacementError):
    code = "no-nodes"


class DoesNotFitError(PlacementError):
    code = "does-not-fit"


class NodeOwnedError(PlacementError):
    code = "owned"


class JobError(ShardboardError):
    code = "job"


class NodeLostError(JobError):
    code = "node-lost"


class RemoteError(JobError):
    """An agent answered with a failure; ``remote_code`` is the agent's own code."""

    code = "remote"

    def __init__(self, message: str, *, hint: str = "", remote_code: str = "") -> None:
        super().__init__(message, hint=hint)
        self.remote_code = remote_code


class VerificationError(JobError):
    code = "verification"


class WireError(ShardboardError):
    code = "wire"


class ProtocolError(WireError):
    code = "protocol"


class UnreachableError(WireError):
    code = "unreachable"


class Cancelled(ShardboardError):
    code = "cancelled"
