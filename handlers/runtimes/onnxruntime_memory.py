"""The memory that ONNX Runtime's sessions on a CPU compute in: kept between calls, and given up.

Without an arena every feature map gets new pages from the system, which fills them with zeros one
by one: that was up to a quarter of a full-size Mask R-CNN's forward. ONNX Runtime's arena keeps its
pages, and gives them up only at the end of a call that asks for it. All sessions of a process share
the one here, so a call of the smallest program there is gives up what a model's calls have left.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import onnxruntime

# A program that answers the number that it is given; onnx.proto says what each byte is.
_SMALLEST = (
    b'\x08\x08:/\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x01gZ\x0b\n\x01x\x12\x06\n\x04\x08\x01'
    b"\x12\x00b\x0b\n\x01y\x12\x06\n\x04\x08\x01\x12\x00B\x04\n\x00\x10\x11"
)
_NUMBER = np.zeros((), np.float32)


def share_arena(options: onnxruntime.SessionOptions) -> None:
    """Let a session, which is to be made with these options, compute in the process's arena."""
    _register()
    options.enable_cpu_mem_arena = True
    options.add_session_config_entry("session.use_env_allocators", "1")


def shrink_arena() -> None:
    """Give up what no session uses at the moment; the next call gets it anew."""
    ends_small = onnxruntime.RunOptions()
    ends_small.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    _smallest().run(None, {"x": _NUMBER}, ends_small)


@lru_cache(maxsize=1)
def _register() -> None:
    memory = onnxruntime.OrtMemoryInfo(
        "Cpu",
        onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR,
        0,
        onnxruntime.OrtMemType.DEFAULT,
    )
    # Without a limit, and otherwise as ONNX Runtime has it.
    onnxruntime.create_and_register_allocator(memory, onnxruntime.OrtArenaCfg(0, -1, -1, -1))


@lru_cache(maxsize=1)
def _smallest() -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    share_arena(options)
    return onnxruntime.InferenceSession(_SMALLEST, options, providers=["CPUExecutionProvider"])
