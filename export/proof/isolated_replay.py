"""Why: starts the fresh process that answers images from an extracted archive, and reads it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from d2serve.client.results.prediction import Prediction, parse_prediction
from d2serve.export.errors import VerificationError

Progress = Callable[[], None]
"""Called each time a batch is answered."""


def _nothing() -> None:
    pass


def replay(
    model_dir: Path,
    batches: Sequence[Sequence[Path]],
    *,
    batching: str = "auto",
    gpu_id: int | None = None,
    progress: Progress = _nothing,
) -> list[list[Prediction]]:
    """Answer image files with an extracted archive, in a process that cannot import detectron2.

    Args:
        model_dir: the extracted archive.
        batches: image files, in the groups in which the handler gets them.
        batching: the model YAML's ``batching`` setting.
        gpu_id: as TorchServe gives it; None is the CPU.
        progress: called after each batch.

    Raises:
        VerificationError: the archive does not load, or an image is answered with an error.
    """
    with tempfile.TemporaryDirectory(prefix="d2serve-replay-") as folder:
        job_file, replies = Path(folder) / "job.json", Path(folder) / "replies.json"
        job = {
            "batches": [[str(file.resolve()) for file in batch] for batch in batches],
            "settings": {"batching": batching},
            "gpu_id": gpu_id,
            "replies": str(replies),
        }
        job_file.write_text(json.dumps(job))
        log = Path(folder) / "stderr.txt"
        with (
            log.open("w") as stderr,
            subprocess.Popen(
                [sys.executable, "-m", "d2serve.export.proof.replay_process", str(job_file)],
                cwd=model_dir,
                env={
                    **os.environ,
                    "PYTHONWARNINGS": "ignore",
                    # As many as eager detectron2 uses here: its answer depends on them, since
                    # they split its sums, by a pixel of a mask at times.
                    "OMP_NUM_THREADS": str(torch.get_num_threads()),
                },
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            ) as process,
        ):
            assert process.stdout is not None  # asked for above
            for _line in process.stdout:
                progress()
        if process.returncode != 0:
            raise VerificationError(
                "The archive does not answer in a fresh process that cannot import detectron2: "
                f"{_last_line(log.read_text())}"
            )
        answers = json.loads(replies.read_text())
    return [
        [_prediction(answer, file) for answer, file in zip(batch, files)]
        for batch, files in zip(answers, batches)
    ]


def _prediction(answer: dict[str, Any], file: Path) -> Prediction:
    if answer["status"] != 200:
        message = answer["reply"]["error"]["message"]
        raise VerificationError(f"{file.name} is answered with {answer['status']}: {message}")
    return parse_prediction(answer["reply"])


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it ended without a word"
