"""A picture takes no more memory than the limit of drawn pixels is made for."""

from __future__ import annotations

import subprocess
import sys

import pytest

# In a process of its own, whose highest mark is this picture's.
DRAWN = """
import sys
from types import SimpleNamespace
import numpy as np
from d2serve.handlers.outputs.records import Detections, Outputs, PanopticSeg, Segment
from d2serve.handlers.replies.drawing import draw

def peak():
    # Not ru_maxrss, which begins with that of the process that started this one.
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024

def drawn(side, file_format, family):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (side, side, 3), np.uint8)  # noise, of which files are largest
    labels = np.ones((side, side), np.int32)
    labels[: side // 2] = 2
    full = {"size": [side, side], "counts": coco(side * side)}
    boxes = np.array([[0, 0, side, side]] * 3, np.float32)
    found = Detections(side, side, boxes, np.ones(3, np.float32), np.arange(3), (full,) * 3, None)
    stuff = PanopticSeg(labels, (
        Segment(1, 1, False, side * side // 2, None, None),
        Segment(2, 0, True, side * side // 2, 0.9, 0),
    ))
    before = peak()
    spec = SimpleNamespace(box_mode="XYXY_ABS", class_names=None, stuff_class_names=None)
    merged = stuff if family == "panoptic" else None
    draw(pixels, Outputs(side, side, found, None, merged, None), spec, file_format)
    return peak() - before

def coco(count):
    from pycocotools import mask
    side = int(count ** 0.5)
    return mask.encode(np.ones((side, side), np.uint8, order="F"))["counts"].decode()

drawn(64, *sys.argv[1:])
SIDE = 3000
print(drawn(SIDE, *sys.argv[1:]) / SIDE**2)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.parametrize("family", ["instances", "panoptic"])
@pytest.mark.parametrize("file_format", ["png", "jpeg"])
def test_bytes_a_pixel(file_format: str, family: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DRAWN, file_format, family],
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(done.stdout.split()[-1]) < 10
