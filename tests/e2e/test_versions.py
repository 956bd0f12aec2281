"""A second version of a model is served beside the first, and answers under its own address."""

from __future__ import annotations

from pathlib import Path

import pytest

from d2serve.export.pipeline import export
from d2serve.export.reading.config import ConfigSource
from d2serve.export.request import ExportRequest, Progress
from d2serve.server.archives.model_archives import archives_of
from d2serve.server.torchserve.process import TorchServeProcess
from tests.conftest import Exporter, HeldOut, config_of, said

QUIET = Progress(lambda _step, _parts: None, lambda: None)


@pytest.mark.server
def test_two_versions_with_different_thresholds(
    exported: Exporter, held_out: HeldOut, tmp_path: Path
) -> None:
    first = exported("faster_rcnn_fpn", "tracing")
    name = first.stem
    (tmp_path / first.name).write_bytes(first.read_bytes())
    export(
        ExportRequest(
            source=ConfigSource(
                str(config_of("faster_rcnn_fpn")),
                overrides=("MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.9"),
            ),
            method="tracing",
            name=name,
            version="2.0",
            output=tmp_path,
        ),
        QUIET,
    )
    assert (tmp_path / first.name).read_bytes() == first.read_bytes(), "1.0 is still there"
    image = held_out.images[0]
    with TorchServeProcess(archives_of(tmp_path), model_store=tmp_path) as server:
        loose = server.http.predict(name, image)
        strict = server.http.predict(name, image, version="2.0")
        assert (loose.version, strict.version) == ("1.0", "2.0")
        assert strict.instances
        assert min(instance.score for instance in strict.instances) > 0.9
        assert len(strict.instances) < len(loose.instances)
        assert said(server.grpc.predict(name, image, version="2.0")) == said(strict)
        server.management.set_default(name, "2.0")
        assert server.http.predict(name, image).version == "2.0"
        assert server.http.predict(name, image, version="1.0").version == "1.0"
        server.management.unregister(name, "1.0")
        assert [d.version for d in server.management.describe(name, "all")] == ["2.0"]
        server.management.register(first.name, model_name=name)
        assert said(server.http.predict(name, image, version="1.0")) == said(loose)
