"""The fresh process in which ``isolated_replay`` lets an archive answer.

Runs as ``python -m d2serve.export.proof.replay_process JOB``, in the folder of an extracted
archive, as a TorchServe worker does: the handler and its library are the archive's own, and
importing detectron2, opencv or pydantic fails.

JOB is a JSON file: ``{"batches": [[image file or array, ...], ...], "options": [[{}, ...], ...],
"settings": {...}, "gpu_id": null, "replies": path}``, whose options are those of each file's
request. A line is printed when the archive is loaded, and one when a batch is done. The replies are
written to the path as a JSON list of lists of ``{"status": int, "reply": {...}}``.
The process ends, with its children, when its standard input closes: nobody waits for it any more.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

FORBIDDEN = ("detectron2", "cv2", "pydantic")
LOADED, DONE = "loaded\n", "done\n"
"""What is printed when the archive is loaded, and when a batch is done."""


class _Refuser(MetaPathFinder):
    def find_spec(
        self, fullname: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.split(".")[0] in FORBIDDEN:
            raise ImportError(f"{fullname} must not be needed to serve a model")
        return None


class _Context:
    """What the handler uses of TorchServe's context."""

    def __init__(self, model_dir: Path, settings: dict[str, Any], gpu_id: int | None) -> None:
        manifest = json.loads((model_dir / "MAR-INF" / "MANIFEST.json").read_text())
        self.manifest = manifest
        self.model_name = manifest["model"]["modelName"]
        self.model_yaml_config = settings
        self.system_properties = {"model_dir": str(model_dir), "gpu_id": gpu_id}
        self.metrics = None  # nobody to tell
        self.statuses: dict[int, int] = {}

    def set_response_status(self, code: int, _phrase: str, idx: int) -> None:
        self.statuses[idx] = code

    def get_request_id(self, idx: int) -> str:
        return str(idx)

    def get_all_request_header(self, _idx: int) -> dict[str, str]:
        return {"Host": "replay"}  # as over HTTP

    def set_response_content_type(self, _idx: int, _value: str) -> None:
        pass


def main(job_file: str) -> None:
    """Answer the job's batches with the archive in the current folder."""
    threading.Thread(target=_end_with_whoever_asked, daemon=True).start()
    sys.meta_path.insert(0, _Refuser())
    job = json.loads(Path(job_file).read_text())
    model_dir = Path.cwd()
    manifest = json.loads((model_dir / "MAR-INF" / "MANIFEST.json").read_text())
    module = importlib.import_module(Path(manifest["model"]["handler"]).stem)
    handler = module.DetectionHandler()
    context = _Context(model_dir, job["settings"], job["gpu_id"])
    handler.initialize(context)
    _say(LOADED)
    answers = []
    for batch, options in zip(job["batches"], job["options"]):
        context.statuses = {}
        requests = [{"body": _body(Path(f)), **said} for f, said in zip(batch, options)]
        replies = handler.handle(requests, context)
        answers.append(
            [
                {"status": context.statuses.get(index, 200), "reply": json.loads(reply)}
                for index, reply in enumerate(replies)
            ]
        )
        _say(DONE)
    Path(job["replies"]).write_text(json.dumps(answers))


def _body(file: Path) -> bytes | npt.NDArray[np.uint8]:
    """The file itself, or the pixels that an array of numpy's holds."""
    if file.suffix == ".npy":
        pixels: npt.NDArray[np.uint8] = np.load(file)
        return pixels
    return file.read_bytes()


def _say(line: str) -> None:
    sys.stdout.write(line)
    sys.stdout.flush()


def _end_with_whoever_asked() -> None:
    # Not by sys.stdin: its lock, held by a thread, is fatal to an interpreter that ends.
    while os.read(0, 1):
        pass
    if hasattr(os, "killpg") and os.getpgid(0) == os.getpid():  # its children are in its group
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1])
