"""torchvision's operators are there without torchvision, and torchvision may still come after."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys
import torch
from d2serve.handlers.runtimes import torchvision_operators

def kept():
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 1, 10, 10], [20, 20, 30, 30]])
    return torch.ops.torchvision.nms(boxes, torch.tensor([0.5, 0.9, 0.1]), 0.5).tolist()

torchvision_operators.register()
print("torchvision" in sys.modules, kept())
torchvision_operators._LIBRARIES = ("renamed",)
torchvision_operators.register()
print("torchvision" in sys.modules, kept())
"""


def test_the_library_alone_is_loaded_and_torchvision_where_it_is_not_found() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["False [1, 2]", "True [1, 2]"], done.stderr
