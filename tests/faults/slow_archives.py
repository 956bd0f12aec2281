"""Archives whose handler takes as many seconds as the request says, and needs no model."""

from __future__ import annotations

from pathlib import Path

from tests.client.conftest import make_archive

_HANDLER = '''
import json
import time
from pathlib import Path

from d2serve.handlers.torchserve.busy import WorkerMark


class SlowHandler:
    """Marks itself busy as DetectionHandler does, or not, as an older archive."""

    def initialize(self, context):
        time.sleep({load_seconds})
        self.mark = WorkerMark(Path(context.system_properties["model_dir"]))
        self.version = context.manifest["model"]["modelVersion"]

    def handle(self, data, context):
        if context.get_all_request_header(0).get("describe") == "True":
            about = {{"workers": self.mark.others()}} if {says} else {{"name": "older"}}
            return [json.dumps(about)] * len(data)
        with self.mark.busy():
            return [self.answer(item, context) for item in data]

    def answer(self, item, context):
        time.sleep(float(bytes(item.get("data") or item.get("body"))))
        about = {{"model": context.model_name, "version": self.version}}
        return json.dumps({{**about, "image": {{"height": 1, "width": 1}}, "instances": []}})
'''


def make_slow_archive(
    store: Path,
    name: str,
    version: str = "1.0",
    *,
    workers: int = 1,
    says: bool = True,
    load_seconds: float = 0.0,
) -> Path:
    """Make NAME.mar in the folder ``store``.

    Args:
        workers: that it is served with.
        says: whether it says that other workers are busy.
        load_seconds: that a worker takes until it is READY.
    """
    handler = _HANDLER.format(says=says, load_seconds=load_seconds)
    settings = f"minWorkers: {workers}\nmaxWorkers: {workers}\n"
    return make_archive(store, name, handler, version, settings)
