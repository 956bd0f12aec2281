"""A trace's doubt is printed, recorded and provoked; doctor and export agree about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from d2serve.export.doctor import Finding, examine
from d2serve.export.errors import VerificationError
from d2serve.export.pipeline import export
from d2serve.export.reading.config import ConfigSource
from d2serve.export.request import ExportRequest, Progress
from d2serve.export.result import ExportResult
from tests.export import custom_modules

pytestmark = pytest.mark.export

CUSTOM = ("tests.export.custom_modules",)
LINE = next(
    number
    for number, row in enumerate(Path(custom_modules.__file__).read_text().splitlines(), 1)
    if "# wide?" in row
)
PLACE = f"{custom_modules.__file__}:{LINE}"


def source_of(config: Path, heads: str, min_size: int) -> ConfigSource:
    overrides = ("MODEL.ROI_HEADS.NAME", heads, "INPUT.MIN_SIZE_TEST", min_size)
    return ConfigSource(str(config), tuple(map(str, overrides)), CUSTOM)


def exported(source: ConfigSource, store: Path) -> ExportResult:
    request = ExportRequest(source=source, method="tracing", name="doubtful", output=store)
    return export(request, Progress(lambda _step, _parts: None, lambda: None))


def traced(source: ConfigSource) -> list[Finding]:
    """What the doctor says of programs that are traced, where there is a place for these heads.

    Caffe2 and torch.export have none, and TensorRT is not installed everywhere.
    """
    findings = examine(source).findings
    elsewhere = ("caffe2", "torch_export", "tensorrt")
    return [each for each in findings if each.method == "tracing" and each.runtime not in elsewhere]


def test_a_doubt_that_matters_at_sizes_a_sample_has_not_is_refused(
    tiny_config: Path, tmp_path: Path
) -> None:
    # As sent: none of the sample's own variants is wider than 1,300 pixels but the panorama.
    source = source_of(tiny_config, "WideImageHeads", 0)
    with pytest.raises(VerificationError) as caught:
        exported(source, tmp_path)
    assert PLACE in str(caught.value)
    assert " wide, " in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    refused = traced(source)
    assert all(each.refusal is not None and PLACE in each.refusal for each in refused)


def test_a_doubt_that_no_image_shows_is_recorded_all_the_same(
    tiny_config: Path, tmp_path: Path
) -> None:
    source = source_of(tiny_config, "VastImageHeads", 96)
    record = exported(source, tmp_path).spec.verification
    assert [each.startswith(PLACE) for each in record["traced_constants"]] == [True]
    assert "self.limit" in record["traced_constants"][0]
    found = traced(source)
    assert {each.verdict for each in found} == {"exports with doubts"}
    assert {str(doubt) for each in found for doubt in each.doubts} == {
        record["traced_constants"][0]
    }
