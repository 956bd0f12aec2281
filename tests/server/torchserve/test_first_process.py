"""A server that is the first process of a container ends as soon as any other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# PR_SET_CHILD_SUBREAPER of Linux: orphans become this process's children, as the first process's.
STOPPING = """
import ctypes, subprocess, sys, time
from pathlib import Path
from d2serve.server.torchserve import launch

assert ctypes.CDLL(None).prctl(36, 1) == 0
leader = subprocess.Popen(["sh", "-c", "sleep 600 & wait"], start_new_session=True)
time.sleep(0.5)
began = time.monotonic()
launch.end(leader, Path(sys.argv[1]))
print(time.monotonic() - began)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="containers are Linux's")
def test_it_does_not_wait_for_orphans_that_have_ended(tmp_path: Path) -> None:
    command = [sys.executable, "-c", STOPPING, str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert float(said) < 2
