"""An archive that answers too little, never, or not at all is found out, and leaves nothing behind.

The archives here are folders with a handler of a few lines, run as any other is.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from d2serve.export.errors import VerificationError
from d2serve.export.proof import isolated_replay
from d2serve.export.proof.cases import Case
from d2serve.export.proof.isolated_replay import replay
from d2serve.export.proof.verification import verify
from d2serve.handlers.outputs.records import Detections, Outputs
from d2serve.handlers.spec.bounds import TORCHSCRIPT_BOUNDS

pytestmark = pytest.mark.export

REPLY = {
    "model": "canned",
    "version": "1.0",
    "image": {"height": 20, "width": 30},
    "instances": [{"bbox": [1, 2, 9, 9], "bbox_mode": "XYXY_ABS", "score": 0.5, "category_id": 0}],
}
HANDLER = """
import json, os, subprocess, sys, time
from pathlib import Path

REPLY = json.dumps({reply!r})

def hang():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path("pids").write_text(f"{{os.getpid()}} {{child.pid}}")
    time.sleep(600)

class DetectionHandler:
    def initialize(self, context):
        {initialize}
    def handle(self, data, context):
        {handle}
"""


def archive(
    folder: Path, initialize: str = "pass", handle: str = "return [REPLY] * len(data)"
) -> Path:
    """An extracted archive whose handler has these two bodies."""
    (folder / "MAR-INF").mkdir()
    manifest = {"model": {"modelName": "small", "handler": "handler.py"}}
    (folder / "MAR-INF" / "MANIFEST.json").write_text(json.dumps(manifest))
    text = HANDLER.format(reply=REPLY, initialize=initialize, handle=handle)
    (folder / "handler.py").write_text(text)
    return folder


@pytest.fixture
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("images")
    files = [folder / f"{name}.png" for name in ("one", "two", "three")]
    for file in files:
        Image.new("RGB", (30, 20)).save(file)
    return files


def test_each_image_is_answered_in_its_batch(tmp_path: Path, images: list[Path]) -> None:
    done: list[None] = []
    batches = [images[:2], images[2:]]
    answered = replay(archive(tmp_path), batches, progress=lambda: done.append(None))
    assert [[outputs.width for outputs in batch] for batch in answered] == [[30, 30], [30]]
    assert len(done) == 2


def test_a_reply_that_no_client_could_read_is_named(tmp_path: Path, images: list[Path]) -> None:
    broken = archive(tmp_path, handle="""return ['{"model": "canned"}'] * len(data)""")
    with pytest.raises(VerificationError, match=r"one\.png .*'version' is missing"):
        replay(broken, [images])


@pytest.mark.parametrize(
    ("handle", "message"),
    [
        ("return [REPLY] * (len(data) - 1)", r"two\.png is not answered: .*2 images .*1 replies"),
        ("return []", r"one\.png is not answered: .*2 images.*0 replies"),
        ("return [REPLY] * (len(data) + 1)", r"2 images .*3 replies"),
        ("return None", r"TypeError: 'NoneType'"),
        ("return ['not JSON'] * len(data)", r"JSONDecodeError"),
        ("os._exit(3)", r"ended without a word, with status 3"),
        ("os.kill(os.getpid(), 9)", r"ended by SIGKILL.*memory"),
    ],
)
def test_a_reply_too_few_is_named(
    handle: str, message: str, tmp_path: Path, images: list[Path]
) -> None:
    with pytest.raises(VerificationError, match=message):
        replay(archive(tmp_path, handle=handle), [images[:2]])


class FixedOracle:
    """Stands for a detectron2 that answers each image as the handlers here do."""

    reference = "the same"
    owner = "detectron2"

    def answer(self, image: object) -> Outputs:  # noqa: ARG002
        boxes = np.array([[1, 2, 9, 9]], np.float32)
        scores, classes = np.array([0.5], np.float32), np.array([0])
        return Outputs(
            20, 30, Detections(20, 30, boxes, scores, classes, None, None), None, None, None
        )

    def answer_batch(self, images: Sequence[object]) -> list[Outputs]:
        return [self.answer(image) for image in images]


@pytest.mark.parametrize("missing", [0, 1])
def test_a_missing_reply_proves_nothing(missing: int, tmp_path: Path) -> None:
    pixels = np.zeros((20, 30, 3), np.uint8)
    case = Case({"sample": pixels, "half": pixels}, together=True)
    oracle = FixedOracle()
    contents = archive(tmp_path, handle=f"return [REPLY] * (len(data) - {missing})")

    def verified() -> int:
        record = verify(contents, oracle, [case], TORCHSCRIPT_BOUNDS, progress=lambda: None)
        return record.detections

    if missing:
        with pytest.raises(VerificationError, match=r"half\.png is not answered"):
            verified()
    else:
        assert verified() == 2


def test_what_a_trace_may_have_turned_into_constants_is_recorded(tmp_path: Path) -> None:
    case = Case({"sample": np.zeros((20, 30, 3), np.uint8)}, together=False)
    record = verify(
        archive(tmp_path),
        FixedOracle(),
        [case],
        TORCHSCRIPT_BOUNDS,
        traced_constants=("mine.py:3",),
        progress=lambda: None,
    )
    assert record.to_json()["traced_constants"] == ["mine.py:3"]


def is_alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def assert_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 10
    while any(map(is_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_alive, pids))


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("bodies", "step"),
    [
        ({"initialize": "hang()"}, r"loading the archive"),
        (
            {"handle": "hang() if len(data) == 1 else None; return [REPLY] * len(data)"},
            r"answering three\.png \(batch 2 of 2\)",
        ),
    ],
)
def test_what_hangs_is_named_and_ended_with_its_children(
    bodies: dict[str, str],
    step: str,
    tmp_path: Path,
    images: list[Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(isolated_replay, "LEAST_SECONDS", 3.0)
    with pytest.raises(VerificationError, match=rf"{step} took longer than 3 s.*ended"):
        replay(archive(tmp_path, **bodies), [images[:2], images[2:]])
    assert_gone([int(pid) for pid in (tmp_path / "pids").read_text().split()])


def test_the_time_follows_from_what_eager_detectron2_took(
    tmp_path: Path, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolated_replay, "LEAST_SECONDS", 2.0)
    contents = archive(tmp_path, handle="time.sleep(3); return [REPLY] * len(data)")
    assert replay(contents, [images], eager_seconds=[0.5])
    with pytest.raises(VerificationError, match=r"two\.png, three\.png \(batch 2 of 2\).* 2\.2 s"):
        replay(contents, [images[:1], images], eager_seconds=[0.5, 0.01])


REPLAYING = """
import sys
from pathlib import Path
from d2serve.export.proof.isolated_replay import replay
replay(Path(sys.argv[1]), [[Path(sys.argv[2])]])
"""


@pytest.mark.timeout(60)
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_it_ends_with_whoever_asked(
    sent: signal.Signals, tmp_path: Path, images: list[Path]
) -> None:
    contents = archive(tmp_path, handle="hang()")
    words = [sys.executable, "-c", REPLAYING, str(contents), str(images[0])]
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as asking:
        while not (tmp_path / "pids").exists() or not (tmp_path / "pids").read_text():
            assert asking.poll() is None
            time.sleep(0.05)
        os.kill(asking.pid, sent)
        asking.wait()
    process, child = map(int, (tmp_path / "pids").read_text().split())
    assert_gone([process, child])
