"""Answers images with an extracted archive, in a fresh process that cannot import detectron2.

A check in the exporting process would pass with detectron2's help. The process gets each step's
images, has a time for each step that follows from detectron2's own, and ends with whoever asked.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from d2serve.client.errors import MalformedReply
from d2serve.client.results.prediction import Prediction, parse_prediction
from d2serve.export.errors import VerificationError
from d2serve.export.proof.replay_process import DONE, LOADED
from d2serve.export.proof.watchdog import Watchdog
from d2serve.handlers.spec.convolution import AUTO
from d2serve.handlers.spec.convolution import SETTING as CONVOLUTION

Progress = Callable[[], None]
"""Called each time a batch is answered."""

# A step hangs when it takes longer than this, and a multiple of what eager detectron2 took. No
# program that is worth serving comes near: TorchServe itself gives a batch 120 s.
LEAST_SECONDS = 600.0
_TIMES_EAGER = 20


def _nothing() -> None:
    pass


def replay(
    model_dir: Path,
    batches: Sequence[Sequence[Path]],
    *,
    options: Sequence[Sequence[Mapping[str, str]]] = (),
    batching: str = "auto",
    convolution: str = AUTO,
    gpu_id: int | None = None,
    eager_seconds: Sequence[float] = (),
    progress: Progress = _nothing,
) -> list[list[Prediction]]:
    """Answer image files with an extracted archive, in a process that cannot import detectron2.

    Args:
        model_dir: the extracted archive.
        batches: image files, in the groups in which the handler gets them.
        options: those of each file's request, in the same groups; without them, none.
        batching, convolution: the model YAML's settings of these names.
        gpu_id: as TorchServe gives it; None is the CPU.
        eager_seconds: what eager detectron2 took for each batch, as far as it was measured.
        progress: called after each batch.

    Returns:
        As many outputs as there are files, in the same groups.

    Raises:
        VerificationError: the archive does not load, hangs, or leaves an image without an answer.
    """
    with tempfile.TemporaryDirectory(prefix="d2serve-replay-") as folder:
        job_file, replies = Path(folder) / "job.json", Path(folder) / "replies.json"
        job = {
            "batches": [[str(file.resolve()) for file in batch] for batch in batches],
            "options": options or [[{}] * len(batch) for batch in batches],
            "settings": {"batching": batching, CONVOLUTION: convolution},
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
                stdin=subprocess.PIPE,  # which closes when this process ends
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                start_new_session=True,
            ) as process,
            Watchdog(process) as watchdog,
        ):
            _watch(process, watchdog, batches, eager_seconds, progress)
        if watchdog.overran is not None:
            raise VerificationError(
                f"The archive hangs: {watchdog.overran}, and its process was ended. If this "
                "machine was busy with something else, try again; otherwise choose another "
                "--export-method, --format or --runtime."
            )
        if process.returncode != 0:
            raise VerificationError(
                "The archive does not answer in a fresh process that cannot import detectron2: "
                f"{_why_it_ended(process.returncode, log.read_text())}"
            )
        answers = json.loads(replies.read_text())
    return [_batch_predictions(batch, files) for batch, files in zip(answers, batches)]


def gpu_id(device: str) -> int | None:
    """A device's number as TorchServe gives it to a worker; None is the CPU."""
    found = torch.device(device)
    return (found.index or 0) if found.type == "cuda" else None


def _watch(
    process: subprocess.Popen[str],
    watchdog: Watchdog,
    batches: Sequence[Sequence[Path]],
    eager_seconds: Sequence[float],
    progress: Progress,
) -> None:
    """Give each step its time: loading, which runs the program as well, each batch, the end."""
    slowest = max(eager_seconds, default=0.0)
    watchdog.begin("loading the archive", LEAST_SECONDS + _TIMES_EAGER * slowest)
    done = 0
    assert process.stdout is not None  # asked for above
    for line in process.stdout:
        if line == DONE:
            done += 1
            progress()
        if line not in (LOADED, DONE):  # a runtime's own words
            continue
        if done == len(batches):
            watchdog.begin("ending its process", LEAST_SECONDS)
        else:
            step = f"answering {_names(batches[done])} (batch {done + 1} of {len(batches)})"
            seconds = eager_seconds[done] if done < len(eager_seconds) else 0.0
            watchdog.begin(step, LEAST_SECONDS + _TIMES_EAGER * seconds)


def _batch_predictions(answers: list[dict[str, Any]], files: Sequence[Path]) -> list[Prediction]:
    if len(answers) != len(files):
        missing = files[len(answers) :]
        raise VerificationError(
            f"{f'{missing[0].name} is not answered: ' if missing else ''}the archive's handler got "
            f"{len(files)} images ({_names(files)}) and gave {len(answers)} replies, expected one "
            "for each. Its handler library may have been changed; export again."
        )
    return [_prediction(answer, file) for answer, file in zip(answers, files)]


def _prediction(answer: dict[str, Any], file: Path) -> Prediction:
    if answer["status"] != 200:
        message = answer["reply"]["error"]["message"]
        raise VerificationError(f"{file.name} is answered with {answer['status']}: {message}")
    try:
        # Without the JSON itself: of a data set, it would double what is kept.
        return replace(parse_prediction(answer["reply"]), raw={})
    except MalformedReply as error:
        raise VerificationError(
            f"{file.name} is answered with what no client can read: {error}"
        ) from error


def _names(files: Sequence[Path]) -> str:
    return ", ".join(file.name for file in files)


def _why_it_ended(status: int, log: str) -> str:
    lines = [line for line in log.splitlines() if line.strip()]
    if lines:
        return lines[-1]
    if status < 0:
        name = signal.Signals(-status).name
        advice = "; the machine may be short of memory" if -status == signal.SIGKILL else ""
        return f"it was ended by {name}{advice}."
    return f"it ended without a word, with status {status}."
