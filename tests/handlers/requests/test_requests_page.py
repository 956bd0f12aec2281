"""docs/requests.md says what the code does; tests/client does so for its errors."""

from __future__ import annotations

import re
from pathlib import Path

from d2serve.handlers.oip.outputs import Output, outputs_of
from d2serve.handlers.requests.options import NAMES as OPTIONS
from d2serve.handlers.spec.limits import DEFAULT_LIMITS, NAMES
from d2serve.handlers.spec.model_spec import PanopticMerge
from tests.handlers.samples import spec_with

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "requests.md").read_text()


def _rows(title: str) -> dict[str, str]:
    section = PAGE.split(f"## {title}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", section, re.MULTILINE)
    return {name: second.strip() for name, second in rows}


def test_every_option_is_there() -> None:
    assert tuple(_rows("Options")) == OPTIONS


def test_every_limit_is_there_with_its_default() -> None:
    assert _rows("Limits") == {name: str(getattr(DEFAULT_LIMITS, name)) for name in NAMES}


def test_every_output_is_there_with_its_type_and_shape() -> None:
    instances = ("pred_boxes", "scores", "pred_classes")
    more = ("pred_masks", "pred_keypoints", "sem_seg")
    everything = spec_with(
        outputs=(*instances, *more), class_names=("a",), panoptic=PanopticMerge(0.5, 1, 0.5)
    )
    proposals = spec_with(outputs=("proposal_boxes", "objectness_logits"))
    expected = {each: _shown(each) for each in (*outputs_of(everything), *outputs_of(proposals))}
    section = PAGE.split("## Open Inference Protocol, version 2\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| `([^`]+)` \|", section, re.MULTILINE)
    assert sorted(rows) == sorted(expected.values())


def _shown(output: Output) -> tuple[str, str, str]:
    letters = iter("NK")
    shape = ", ".join(next(letters) if size == -1 else str(size) for size in output.shape)
    return output.name, output.datatype, f"[{shape}]"
