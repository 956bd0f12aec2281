"""Uploads that together are more than TorchServe's memory: some are refused, and it lives on."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from d2serve.server.torchserve.process import TorchServeProcess
from tests.handlers.programs import write_archive
from tests.robustness.conftest import ONE_WORKER, pack
from tests.robustness.sending import Sender, grey

pytestmark = pytest.mark.server

AT_ONCE, BYTES = 16, 30_000_000


def test_uploads_larger_than_javas_memory(tmp_path: Path) -> None:
    archive, store = tmp_path / "archive", tmp_path / "store"
    archive.mkdir()
    store.mkdir()
    program = write_archive(archive, class_names=("none", "square"))
    pack(program, store, "shapes", {**ONE_WORKER, "batchSize": 1})
    with TorchServeProcess(
        {"shapes": "shapes.mar"}, model_store=store, overrides={"vmargs": "-Xmx128m"}
    ) as server:
        (java,) = (each for each in psutil.Process(server.pid).children() if "java" in each.name())
        (before,) = server.management.describe("shapes")
        large = grey(51) + bytes(BYTES)  # an image, and what decoders leave alone

        def ask(_: int) -> tuple[int, str | None]:
            stranger = Sender(server)
            with stranger.http:
                answer = stranger.image(large)
                return answer.status_code, answer.json().get("type")

        with ThreadPoolExecutor(AT_ONCE) as pool:
            answers = set(pool.map(ask, range(AT_ONCE)))
        refused = (507, "OutOfMemoryError")
        assert answers <= {(200, None), refused}, answers
        assert refused in answers, "its memory was large enough: nothing was tried"
        assert server.http.predict("shapes", grey(51)).instances
        (after,) = server.management.describe("shapes")
        assert java.is_running()
        assert [each.pid for each in after.workers] == [each.pid for each in before.workers]
