"""The archive answers where detectron2, opencv, pydantic (and torch, for ONNX) are missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from d2serve.export.archive.opening import opened
from d2serve.export.errors import VerificationError
from d2serve.export.proof.comparing.comparison import compare
from d2serve.export.proof.isolated_replay import replay
from d2serve.export.proof.oracle import Oracle
from d2serve.export.reading.config_loading import load_config
from d2serve.handlers.requests.decoding import decode
from d2serve.handlers.spec.bounds import TORCHSCRIPT_BOUNDS
from d2serve.handlers.spec.runtimes import RUNTIMES, TORCHSCRIPT
from tests.conftest import KINDS, METHODS, Exporter, HeldOut, source_of
from tests.ways import installed

# As a TorchServe worker: the archive's folder comes first; nothing of this project is on the path.
SCRIPT = """
import json, sys
refused = sys.argv[2].split(",")
class Refuser:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in refused:
            raise ImportError(name)
sys.meta_path.insert(0, Refuser())
sys.path.insert(0, ".")
try:
    import detectron2
    raise SystemExit("detectron2 could be imported, so this shows nothing")
except ImportError:
    pass
from pathlib import Path
from d2serve.handlers import detector
from d2serve.handlers.requests.decoding import decode
assert Path(detector.__file__).is_relative_to(Path.cwd()), detector.__file__
(answer,) = detector.Detector.open(Path.cwd())([decode(Path(sys.argv[1]).read_bytes())])
found = answer.instances
print(json.dumps({"scores": found.scores.tolist(), "masks": found.masks}))
"""


@pytest.mark.parametrize("kind", installed(KINDS))
def test_the_library_answers_without_detectron2(
    kind: str, exported: Exporter, held_out: HeldOut
) -> None:
    file = held_out.images[0]
    needs_torch = RUNTIMES[TORCHSCRIPT if kind in METHODS else kind].needs_torch
    # As a library it needs no stand-in: programs that are not torch's never ask for torch.
    refused = "detectron2,cv2,pydantic" + (",torch,torchvision" * (not needs_torch))
    with opened(exported("mask_rcnn_fpn", kind)) as contents:
        kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", SCRIPT, str(file), refused],
            cwd=contents,
            env=kept,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    oracle = Oracle(load_config(source_of("mask_rcnn_fpn")))
    expected = oracle.answer(decode(file.read_bytes())).instances
    assert expected is not None
    assert len(expected) > 0
    assert answer["scores"] == pytest.approx(expected.scores.tolist(), abs=1e-4)
    if kind in METHODS:
        assert tuple(answer["masks"]) == expected.masks
    assert len(answer["masks"]) == len(expected)


def test_the_handler_answers_without_detectron2(exported: Exporter, held_out: HeldOut) -> None:
    files = held_out.images[:3]
    with opened(exported("keypoint_rcnn_fpn", "scripting")) as contents:
        ((first, second, third),) = replay(contents, [files], batching="always")
    oracle = Oracle(load_config(source_of("keypoint_rcnn_fpn")))
    expected = oracle.answer_batch([decode(file.read_bytes()) for file in files])
    for file, reference, got in zip(files, expected, (first, second, third)):
        difference = compare(file.name, reference, got.to_outputs(), TORCHSCRIPT_BOUNDS)
        assert difference.misses == ()
        assert difference.detections > 0


def test_a_changed_program_is_refused(exported: Exporter, held_out: HeldOut) -> None:
    with opened(exported("mask_rcnn_fpn", "tracing")) as contents:
        program: Path = contents / "model.pt"
        program.write_bytes(program.read_bytes() + b"\0")
        with pytest.raises(VerificationError, match="sha256"):
            replay(contents, [[held_out.images[0]]])
