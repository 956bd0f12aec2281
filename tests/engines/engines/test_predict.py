"""``d2serve predict X.mar`` prints what TorchServe answers, for all images of the reference."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tests.conftest import ROOT
from tests.engines.reference import Reference

_RUN = "from d2serve.cli.main import main; main()"
_NO_ID = b'"request_id":"",'


def test_lines_and_coco_results_are_those_of_torchserve(
    reference: Reference, tmp_path: Path
) -> None:
    annotations, results = reference.folder / "annotations.json", tmp_path / "results.json"
    done = subprocess.run(
        [
            *(sys.executable, "-W", "ignore", "-c", _RUN, "predict"),
            *(str(reference.archive), str(reference.folder / "images"), "--json"),
            *("--coco-results", str(results), "--coco-json", str(annotations)),
        ],
        env={"PYTHONPATH": str(ROOT / ".typed")},
        capture_output=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    expected = [reference.answers[image.name] for image in reference.images]
    assert lines == [answer.replace(_NO_ID, b"") for answer in expected]
    assert len(lines) == 300
    said = sum(answer.count(b'"bbox"') for answer in expected)
    assert len(json.loads(results.read_bytes())) == said > 1000
    for kind in ("bbox", "segm"):
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO(str(annotations))
            evaluation = COCOeval(truth, truth.loadRes(str(results)), kind)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        assert evaluation.stats[0] > 0.4
