"""The worker processes of one setup: started together, run for stretches, ended with this process.

They are processes of their own, as a server's workers are, each with its copy of the model and its
threads. What a server adds, its queue and its network, is not in them.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from d2serve.server.measuring.plan import MeasureError, Setup, Stretch, Subject

_MIB = 1024 * 1024
_END_SECONDS = 2.0


class Pool:
    """Worker processes of one archive."""

    def __init__(
        self, subject: Subject, setup: Setup, images: Sequence[Path], warm_up: float
    ) -> None:
        """Start the workers, and wait until each has answered the images once.

        Args:
            subject: the archive.
            setup: how many workers, and how each is set.
            images: files that they answer.
            warm_up: seconds after which no further image is answered before measuring.

        Raises:
            MeasureError: one cannot load the archive, or refuses every image.
        """
        self._subject, self._setup = subject, setup
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed with the workers)
        self._processes: list[subprocess.Popen[str]] = []
        self.refused: Mapping[int, str] = {}
        """Images that the model refuses, by their index, and why."""
        begun = time.perf_counter()
        try:
            job = {
                "folder": str(subject.folder),
                "threads": setup.threads,
                "batch": setup.batch,
                "images": [str(each) for each in images],
                "warm_up": warm_up,
            }
            for _ in range(setup.workers):
                self._processes.append(self._started())
            self._tell([job] * setup.workers)
            answers = self._heard()
            self.refused = {int(i): why for i, why in answers[0]["refused"].items()}
            if len(self.refused) == len(images):
                raise MeasureError(
                    f"{subject.name} refuses every image: {next(iter(self.refused.values()))}"
                )
        except BaseException:
            self.close()
            raise
        self.start_seconds = time.perf_counter() - begun

    def run(self, seconds: float) -> Stretch:
        """Let every worker answer one image after another for so long.

        Raises:
            MeasureError: a worker ended.
        """
        # Not all the same image at the same time.
        self._tell([{"seconds": seconds, "first": 3 * i} for i in range(self._setup.workers)])
        answers = self._heard()
        images = sum(each["images"] for each in answers)
        names = answers[0]["steps"]
        return Stretch(
            rate=sum(each["images"] / each["elapsed"] for each in answers),
            latencies=tuple(took for each in answers for took in each["latencies"]),
            steps={
                name: sum(each["steps"].get(name, 0) * each["images"] for each in answers) / images
                for name in names
            },
            objects=sum(each["objects"] * each["images"] for each in answers) / images,
        )

    def memory_mib(self) -> float:
        """Mean of the workers, in MiB: PSS, which divides shared pages among those that have them,
        or RSS where the system does not tell it."""
        infos = [psutil.Process(each.pid).memory_full_info() for each in self._processes]
        return float(sum(getattr(info, "pss", info.rss) for info in infos) / len(infos) / _MIB)

    def close(self) -> None:
        """End the workers."""
        for each in self._processes:
            if each.stdin is not None:
                with contextlib.suppress(OSError):  # it has ended
                    each.stdin.close()
        end = time.monotonic() + _END_SECONDS
        for each in self._processes:
            try:
                each.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:  # it is amid a call
                each.kill()
                each.wait()
            if each.stdout is not None:
                each.stdout.close()
        self._processes = []
        self._log.close()

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _started(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "d2serve.server.measuring.worker"],
            env={**os.environ, "OMP_NUM_THREADS": str(self._setup.threads)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            start_new_session=True,  # Ctrl-C is for us, who tell them
        )

    def _tell(self, messages: Sequence[Mapping[str, Any]]) -> None:
        for process, message in zip(self._processes, messages):
            assert process.stdin is not None  # asked for
            try:
                process.stdin.write(json.dumps(message) + "\n")
                process.stdin.flush()
            except OSError:  # it has ended, which shows when it is to be heard
                pass

    def _heard(self) -> list[dict[str, Any]]:
        answers = []
        for process in self._processes:
            assert process.stdout is not None  # asked for
            line = process.stdout.readline()
            while line and not line.startswith("{"):  # a runtime's own words
                line = process.stdout.readline()
            if not line:
                raise MeasureError(self._why_ended(process))
            answer = json.loads(line)
            if "error" in answer:
                raise MeasureError(f"{self._subject.name}: {answer['error']}")
            answers.append(answer)
        return answers

    def _why_ended(self, process: subprocess.Popen[str]) -> str:
        status = process.wait()
        self._log.seek(0)
        last = [line.strip() for line in self._log.read().splitlines() if line.strip()][-1:]
        why = last[0] if last else "The machine may be short of memory."
        return (
            f"A worker of {self._subject.name} ended with status {status} at {self._setup} "
            f"(workers x threads). {why}"
        )
