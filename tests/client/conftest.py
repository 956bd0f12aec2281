"""Archives without torch, made by the real torch-model-archiver, and one server for many tests."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from d2serve.server.torchserve.process import TorchServeProcess
from tests.client.protocols import NAMES, Protocol

CANNED_HANDLER = '''
import json


class CannedHandler:
    """Answers what it was sent: enough to test everything around a model."""

    def initialize(self, context):
        self.version = context.manifest["model"]["modelVersion"]

    def handle(self, data, context):
        return [self.answer(item, context, i) for i, item in enumerate(data)]

    def answer(self, item, context, index):
        sent = bytes(item.get("data") or item.get("body") or b"")
        if sent.startswith(b"bad"):
            context.set_response_status(400, "Bad Request", index)
            return b'{"error": {"code": "invalid_image", "message": "not an image"}}'
        if sent.startswith(b"boom"):
            raise RuntimeError("boom")
        if sent.startswith(b"other"):
            return b'[1, 2, 3]'
        instance = {
            "bbox": [1.0, 1.0, 3.0, 3.0],
            "bbox_mode": "XYXY_ABS",
            "score": 0.75,
            "category_id": len(sent),
            "category_name": "circle",
            "segmentation": {"size": [4, 6], "counts": "52225"},
            "keypoints": [[2.0, 2.0, 0.5]],
        }
        reply = {
            "model": context.model_name,
            "version": self.version,
            "image": {"height": 4, "width": 6},
            "instances": [instance],
            "fields": sorted(item),
        }
        if item.get("sem_seg") is not None:
            wish = bytes(item["sem_seg"]).decode()
            classes = [{"category_id": 3, "area": 24}]
            if wish == "rle":
                classes[0]["segmentation"] = {"size": [4, 6], "counts": "0h0"}
            reply["sem_seg"] = {"size": [4, 6], "classes": classes}
        return json.dumps(reply).encode()
'''

DYING_HANDLER = """
import a_package_that_is_not_there


class DyingHandler:
    def initialize(self, context):
        pass

    def handle(self, data, context):
        return [b"{}"] * len(data)
"""

ONE_WORKER = "minWorkers: 1\nmaxWorkers: 1\n"


def make_archive(
    store: Path, file_name: str, handler: str, version: str, settings: str = ONE_WORKER
) -> Path:
    """Run torch-model-archiver; returns the .mar it made, renamed to ``file_name``.mar."""
    work = store.parent / f"source-{file_name}"
    (work / "tmp").mkdir(parents=True)
    (work / f"{file_name}_handler.py").write_text(handler)
    (work / "model-config.yaml").write_text(settings)
    subprocess.run(
        [
            str(Path(sys.executable).parent / "torch-model-archiver"),
            f"--model-name={file_name}",
            f"--version={version}",
            f"--handler={work / f'{file_name}_handler.py'}",
            f"--config-file={work / 'model-config.yaml'}",
            f"--export-path={store}",
        ],
        check=True,
        capture_output=True,
        env={"TMPDIR": str(work / "tmp")},
    )
    return store / f"{file_name}.mar"


@pytest.fixture(scope="session")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model store with canned.mar (1.0), canned2.mar (2.0) and dying.mar."""
    store = tmp_path_factory.mktemp("archives") / "store"
    store.mkdir()
    make_archive(store, "canned", CANNED_HANDLER, "1.0")
    make_archive(store, "canned2", CANNED_HANDLER, "2.0")
    make_archive(store, "dying", DYING_HANDLER, "1.0")
    return store


@pytest.fixture(scope="session")
def server(archives: Path) -> Iterator[TorchServeProcess]:
    """A TorchServe with the safe settings and tokens, serving ``canned``.

    The variables would undo these settings if config.properties let them.
    """
    undoing = {"TS_DISABLE_TOKEN_AUTHORIZATION": "true", "TS_ALLOWED_URLS": ".*"}
    with TorchServeProcess(
        {"canned": "canned.mar"},
        model_store=archives,
        environment=undoing,
        overrides={"default_workers_per_model": "1"},
    ) as running:
        yield running


@pytest.fixture(params=NAMES)
def protocol(request: pytest.FixtureRequest) -> Iterator[Protocol]:
    """Each of the three clients."""
    one = Protocol(request.param)
    yield one
    one.close()
