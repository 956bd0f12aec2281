"""A TorchScript program runs unoptimised, on the threads asked for, whoever calls it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from d2serve.handlers.runtimes import torchscript as torchscript_runtime
from d2serve.handlers.runtimes.torchscript import TorchScriptRuntime
from d2serve.handlers.spec.model_spec import read_spec

IMAGE = np.full((3, 10, 20), 51, np.float32)


@pytest.fixture
def threads() -> Iterator[int]:
    before = torch.get_num_threads()
    yield before
    torch.set_num_threads(before)


def loaded(archive: Path, threads: int) -> TorchScriptRuntime:
    return torchscript_runtime.load(archive / "model.pt", read_spec(archive), "cpu", threads)


def test_each_calling_thread_uses_as_many(traced_archive: Path, threads: int) -> None:
    """torch keeps the number for each thread, so one that has called before would keep its own."""
    runtime = loaded(traced_archive, threads)

    def ask() -> int:
        runtime.run([IMAGE])
        return torch.get_num_threads()

    with ThreadPoolExecutor(1) as another:
        assert another.submit(ask).result() == threads
        runtime.set_threads(threads + 2)
        assert torch.get_num_threads() == threads + 2
        assert another.submit(ask).result() == threads + 2


def test_two_programs_keep_their_own_threads(traced_archive: Path, threads: int) -> None:
    first, second = loaded(traced_archive, threads + 1), loaded(traced_archive, threads + 2)
    for runtime, expected in ((first, threads + 1), (second, threads + 2)):
        runtime.run([IMAGE])
        assert torch.get_num_threads() == expected


@pytest.mark.usefixtures("threads")
def test_it_is_not_optimised_for_shapes_and_others_are(
    traced_archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = loaded(traced_archive, 1)
    seen: list[bool] = []
    program = runtime._program

    def watched(image: torch.Tensor) -> object:
        seen.append(torch._C._get_graph_executor_optimize())
        return program(image)

    monkeypatch.setattr(runtime, "_program", watched)
    runtime.run([IMAGE])
    assert seen == [False]
    assert torch._C._get_graph_executor_optimize()
