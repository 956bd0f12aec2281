"""Builds the native code with a driver of its own, under sanitizers or without."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT

NATIVE = ROOT / "kernels" / "native"
DRIVER = Path(__file__).with_name("driver.cpp")
COMPILER = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler")

_OF_ONE_FILE = {
    "avx2": ["-mavx2", "-mfma"],
    "avx512": ["-mavx2", "-mfma", "-mavx512f", "-mavx512vl", "-mavx512dq", "-mavx512bw"],
}


def driver(folder: Path, *flags: str) -> Path:
    """The driver, compiled with the native code as setup.py compiles it, and with these flags."""
    common = ["-std=c++17", "-ffp-contract=off", "-pthread", f"-I{NATIVE}", *flags]
    processes = []
    for source in (*sorted(NATIVE.rglob("*.cpp")), DRIVER):
        command = [str(COMPILER), *common, *_OF_ONE_FILE.get(source.stem, []), "-c", str(source)]
        processes.append(subprocess.Popen([*command, "-o", str(folder / f"{source.stem}.o")]))
    assert [process.wait() for process in processes] == [0] * len(processes)
    built = folder / "driver"
    objects = [str(file) for file in folder.glob("*.o")]
    subprocess.run([str(COMPILER), *common, *objects, "-ldl", "-o", str(built)], check=True)
    return built
