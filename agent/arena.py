"""The memory that all shards compute in.

Left alone every session of onnxruntime keeps the memory of its largest run for itself. A node that runs dozens of
shards, as under tensor partition, one after the other, needs it only once.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import onnxruntime as ort

SHARED: Final = ("session.use_env_allocators", "1")
"""The session option that takes a session's memory from the shared arena, if there is one in the process."""

# y = Neg(x) on float32 scalars; opset 13, IR version 8.
_SMALLEST_GRAPH: Final = (
    b"\x08\x08\x12\x00:*\n\x0b\n\x01x\x12\x01y\x22\x03Neg\x12\x01tZ\x0b\n\x01x\x12\x06\n\x04\x08\x01\x12\x00"
    b"b\x0b\n\x01y\x12\x06\n\x04\x08\x01\x12\x00B\x04\n\x00\x10\r"
)


class Arena:
    """Makes the shared arena of this process. It keeps its memory from run to run, and may be used from any thread."""

    def __init__(self) -> None:
        memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
        ort.create_and_register_allocator(memory, None)
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        options.add_session_config_entry(*SHARED)
        self._session = ort.InferenceSession(_SMALLEST_GRAPH, options, providers=["CPUExecutionProvider"])
        self._feed = {"x": np.zeros((), np.float32)}
        self._giving_back = ort.RunOptions()
        self._giving_back.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

    def give_back(self) -> None:
        """Return to the system what no session uses any more. onnxruntime does so only at the end of a run."""
        self._session.run(None, self._feed, self._giving_back)
