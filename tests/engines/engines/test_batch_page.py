"""The commands and the Python of docs/batch.md are run as they stand, in order, in one folder."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from moto.server import ThreadedMotoServer
from ray.cluster_utils import Cluster

from tests.conftest import ROOT
from tests.engines.reference import Reference

PAGE = (ROOT / "docs" / "batch.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(bash|python)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
COUNT = 12


@pytest.fixture(scope="module")
def folder(reference: Reference, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """With a model store, photos, their annotations, the bucket that the page names, and a Ray."""
    made = tmp_path_factory.mktemp("page")
    (made / "model_store").mkdir()
    shutil.copy(reference.archive, made / "model_store" / "shapes.mar")
    (made / "photos").mkdir()
    for image in reference.images[:COUNT]:
        shutil.copy(image, made / "photos")
    shutil.copy(reference.folder / "annotations.json", made)
    (made / "bin").mkdir()
    command = "from d2serve.cli.main import main; main()"
    script = f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -c "{command}" "$@"\n'
    (made / "bin" / "d2serve").write_text(script)
    (made / "bin" / "d2serve").chmod(0o755)
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    settings = {
        "PATH": f"{made / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        fsspec.filesystem("s3").clear_instance_cache()
        files = fsspec.filesystem("s3")
        files.mkdir("bucket")
        for image in reference.images[:COUNT]:
            files.pipe_file(f"bucket/photos/{image.name}", image.read_bytes())
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
        patch.setenv("RAY_ADDRESS", cluster.address)
        try:
            yield made
        finally:
            cluster.shutdown()
            server.stop()


def run(folder: Path, language: str, block: str) -> str:
    if language == "python":
        command = [sys.executable, "-c", block]
    else:
        lines = block.replace("\\\n", " ").splitlines()
        kept = [line for line in lines if not line.startswith("pip install")]
        command = ["bash", "-euc", "\n".join(kept)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_page(folder: Path) -> None:
    *first, last = BLOCKS
    printed = [run(folder, language, block) for language, block in first]
    fsspec.filesystem("s3").rm("bucket/results", recursive=True)  # which the last would find done
    printed.append(run(folder, *last))
    answered, counted, again, evaluated, *addresses = printed
    assert f"{COUNT} images: {COUNT} answered, 0 failed." in answered
    assert "circle" in counted
    assert f"{COUNT} images, {COUNT} of them before" in again
    entries = json.loads((folder / "coco_results.json").read_text())
    assert len(entries) > COUNT
    # Of 12 of the 300 images; the others count as missed.
    precision = re.search(r"IoU=0\.50 .* all .* = (\S+)", evaluated)
    assert precision is not None
    assert float(precision[1]) > 0.01
    assert len(addresses) == 2
    for with_ray_or_without in addresses:
        assert f"{COUNT} images: {COUNT} answered, 0 failed." in with_ray_or_without
