"""A second version of a model is served beside the first, and answers under its own address."""

from __future__ import annotations

from pathlib import Path

import pytest

from d2serve.export.pipeline import export
from d2serve.export.reading.config import ConfigSource
from d2serve.export.request import ExportRequest, Progress
from d2serve.server.torchserve.process import TorchServeProcess
from tests.conftest import Exporter, HeldOut, config_of, said

QUIET = Progress(lambda _step, _parts: None, lambda: None)


@pytest.mark.server
def test_two_versions_with_different_thresholds(
    exported: Exporter, held_out: HeldOut, tmp_path: Path
) -> None:
    first = exported("faster_rcnn_fpn", "tracing")
    second = export(
        ExportRequest(
            source=ConfigSource(
                str(config_of("faster_rcnn_fpn")),
                overrides=("MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.9"),
            ),
            method="tracing",
            name="strict",
            version="2.0",
            output=tmp_path,
        ),
        QUIET,
    ).archive
    (tmp_path / first.name).write_bytes(first.read_bytes())
    image = held_out.images[0]
    with TorchServeProcess(model_store=tmp_path) as server:
        server.management.register(first.name, model_name="shapes")
        server.management.register(second.name, model_name="shapes")
        loose = server.http.predict("shapes", image)
        strict = server.http.predict("shapes", image, version="2.0")
        assert (loose.version, strict.version) == ("1.0", "2.0")
        assert strict.instances
        assert min(instance.score for instance in strict.instances) > 0.9
        assert len(strict.instances) < len(loose.instances)
        assert said(server.grpc.predict("shapes", image, version="2.0")) == said(strict)
        server.management.set_default("shapes", "2.0")
        assert server.http.predict("shapes", image).version == "2.0"
        server.management.unregister("shapes", "1.0")
        assert [d.version for d in server.management.describe("shapes", "all")] == ["2.0"]
