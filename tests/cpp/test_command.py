"""``d2serve_predict`` answers as the Python library does, and tells a mistake in one sentence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from d2serve.handlers.detector import Detector
from d2serve.handlers.replies.encoding import encode
from d2serve.handlers.requests.decoding import decode
from d2serve.handlers.spec.convolution import DIRECT
from tests.conftest import Exporter
from tests.cpp.building import configure, run
from tests.cpp.models import archive_of, files_of, folder_of
from tests.exports import ROOT
from tests.handlers.samples import spec_with

SAMPLE = ROOT / "examples" / "shapes" / "sample.jpg"
OF_OPENVINO = {"runtime": "openvino", "program": "model.xml", "method": "tracing"}


@pytest.fixture(scope="session")
def command(cpp_build: Path) -> Path:
    return cpp_build / "bin" / "d2serve_predict"


@pytest.fixture(scope="session")
def archive(exported: Exporter) -> Path:
    return exported("mask_rcnn_fpn", "openvino")


@pytest.fixture(scope="session")
def installed(cpp_build: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library, the command and the engine on OpenVINO, moved away from where they were put."""
    folder = tmp_path_factory.mktemp("installed")
    for component in ("core", "openvino"):
        run("cmake", "--install", cpp_build, "--prefix", folder / "there", "--component", component)
    return (folder / "there").rename(folder / "here")


@pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")
def test_the_engine_on_libtorch_is_installed_with_its_libraries(
    cpp_build: Path, tmp_path: Path
) -> None:
    run("cmake", "--install", cpp_build, "--prefix", tmp_path, "--component", "libtorch")
    found = {each.name for each in tmp_path.rglob("*.so")}
    assert {"libd2serve_libtorch.so", "libtorch_cpu.so", "libc10.so"} <= found


def refused(*words: str | Path) -> str:
    """The sentence in which a command is refused."""
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    return done.stderr.strip()


def test_a_reply_is_pythons(command: Path, archive: Path, tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    reply = run(command, archive, SAMPLE, "--draw", picture, "--threads", "1")
    with Detector.open(archive, threads=1, convolution=DIRECT) as detector:  # as C++ has them
        [expected] = detector([decode(SAMPLE.read_bytes())])
    assert len(expected.instances or ()) > 5
    found = json.loads(reply)
    assert found == json.loads(encode(expected, detector.spec, found["model"], found["version"]))
    drawn, sent = (np.asarray(Image.open(each)) for each in (picture, SAMPLE))
    assert drawn.shape == sent.shape
    assert 0.01 < (drawn != sent).mean() < 0.9
    assert [each.name for each in tmp_path.iterdir()] == ["picture.png"]


def test_several_images_of_which_one_is_none(command: Path, archive: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.png"
    wrong.write_bytes(b"no image")
    done = subprocess.run(
        [command, archive, SAMPLE, wrong, SAMPLE], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    first, second = done.stdout.splitlines()
    assert first == second
    assert done.stderr.startswith(f"{wrong}: Got 8 bytes that are no JPEG or PNG file.")


def test_the_time_is_told_beside_the_answer(command: Path, archive: Path) -> None:
    done = subprocess.run(
        [command, archive, SAMPLE, "--time"], capture_output=True, text=True, check=True
    )
    assert done.stderr.startswith("load ")
    assert all(step in done.stderr for step in ("decode", "preprocess", "forward", "postprocess"))
    assert done.stdout.count("\n") == 1


def test_what_is_typed_wrongly(command: Path, tmp_path: Path) -> None:
    assert "--draw" in run(command, "--help")
    assert "see --help" in refused(command)
    assert "see --help" in refused(command, "model.mar")
    assert "There is no option --drew" in refused(command, "model.mar", SAMPLE, "--drew", "x.png")
    assert "lacks its value" in refused(command, "model.mar", SAMPLE, "--draw")
    assert "from 1 to 1024" in refused(command, "model.mar", SAMPLE, "--threads", "0")
    assert "--draw takes one image" in refused(command, "m", SAMPLE, SAMPLE, "--draw", "x.png")
    assert f"There is no {tmp_path / 'no.mar'}" in refused(command, tmp_path / "no.mar", SAMPLE)


def test_a_picture_that_cannot_be_written_leaves_nothing(
    command: Path, archive: Path, tmp_path: Path
) -> None:
    picture = tmp_path / "none" / "picture.png"
    assert f"{picture} cannot be written" in refused(command, archive, SAMPLE, "--draw", picture)
    folder = tmp_path / "folder.png"
    folder.mkdir()
    assert "it is no file" in refused(command, archive, SAMPLE, "--draw", folder)
    assert [each.name for each in tmp_path.rglob("*")] == ["folder.png"]


def test_a_program_that_is_none(command: Path, tmp_path: Path) -> None:
    model = folder_of(spec_with(**OF_OPENVINO, dynamic_batch=False), tmp_path / "model")
    done = subprocess.run([command, model, SAMPLE], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    told = done.stderr.splitlines()[-1]  # OpenVINO's readers log before
    assert "cannot load model.xml, which was exported with an unknown version" in told


def test_a_program_of_batches_is_refused(command: Path, tmp_path: Path) -> None:
    model = folder_of(spec_with(**OF_OPENVINO, dynamic_batch=True), tmp_path / "model")
    assert "Export the model without --dynamic-batch." in refused(command, model, SAMPLE)


@pytest.mark.parametrize("runtime", ["torchscript", "brainscript"])
def test_an_engine_that_is_not_there(installed: Path, runtime: str, tmp_path: Path) -> None:
    archive = archive_of(files_of(spec_with(runtime=runtime)), tmp_path / "model.mar")
    told = refused(installed / "bin" / "d2serve_predict", archive, SAMPLE)
    expected = {
        "torchscript": "-DD2SERVE_LIBTORCH=ON, or export the model with another --runtime.",
        "brainscript": "for which there is no engine in C++. Export the model with --runtime",
    }
    assert expected[runtime] in told


def test_what_is_installed_needs_no_python(installed: Path, archive: Path, command: Path) -> None:
    """Neither Python nor the environment it was built in: nothing of them is opened."""
    program = installed / "bin" / "d2serve_predict"
    done = subprocess.run(
        [program, archive, SAMPLE],
        env={"LD_DEBUG": "files", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == run(command, archive, SAMPLE, OMP_NUM_THREADS="1")
    assert str(installed / "lib" / "libd2serve_openvino.so") in done.stderr
    assert str(installed / "lib" / "libopenvino_intel_cpu_plugin.so") in done.stderr
    for foreign in ("libpython", "libtorch", "torchvision", sys.prefix, str(ROOT)):
        assert foreign not in done.stderr


CONSUMER = """
#include <d2serve_cpp/detector.h>
#include <d2serve_cpp/error.h>
#include <d2serve_cpp/reply.h>

#include <iostream>

int main(int, char** words) {
    try {
        const auto detector = d2serve::Detector::open(words[1]);
        const auto& spec = detector.spec();
        const auto image = d2serve::read_image_file(words[2], spec.image_form(), spec.limits);
        const auto outputs = detector(image);
        std::cout << d2serve::to_json(outputs, spec, {detector.model(), detector.version(), ""});
    } catch (const d2serve::Error& error) {
        std::cerr << error.what();
        return 1;
    }
    return 0;
}
"""
PROJECT = """
cmake_minimum_required(VERSION 3.22)
project(consumer LANGUAGES CXX)
find_package(d2serve_cpp 0.1 REQUIRED)
add_executable(consumer consumer.cpp)
target_link_libraries(consumer d2serve_cpp::d2serve_cpp)
"""


def test_another_project_finds_the_library(
    installed: Path, archive: Path, command: Path, tmp_path: Path
) -> None:
    (tmp_path / "consumer.cpp").write_text(CONSUMER)
    (tmp_path / "CMakeLists.txt").write_text(PROJECT)
    built = tmp_path / "build"
    configure(tmp_path, built, f"-DCMAKE_PREFIX_PATH={installed}")
    run("cmake", "--build", built)
    reply = run(built / "consumer", archive, SAMPLE, OMP_NUM_THREADS="1")
    assert json.loads(reply) == json.loads(run(command, archive, SAMPLE, OMP_NUM_THREADS="1"))


def test_a_build_says_what_it_lacks() -> None:
    """`make cpp` on a machine without a compiler, or without a header."""
    for compiler, message in (
        ("no-compiler", "needs a C++ compiler"),
        ("false", "needs jpeglib.h"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "environment.cpp"],
            cwd=ROOT,
            env={**os.environ, "CXX": compiler},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert message in done.stderr
        assert "apt-get install -y g++ libjpeg-dev libpng-dev zlib1g-dev" in done.stderr
