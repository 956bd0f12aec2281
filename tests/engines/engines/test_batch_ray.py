"""``d2serve batch`` on Ray: three nodes on this machine, of which parts are killed meanwhile.

Whatever happens, each image has one row, and the rows give TorchServe's own bytes.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import ray
from ray.cluster_utils import Cluster

from d2serve.server.batch.columns import Options
from d2serve.server.batch.errors import BatchRefused
from d2serve.server.batch.folder import Folder
from d2serve.server.batch.job import Job, Share, run
from d2serve.server.batch.on_ray import on_ray
from d2serve.server.batch.results import Results
from d2serve.server.batch.rows import reply_of
from d2serve.server.batch.shipping import code_to_ship
from d2serve.server.images.sources import find_images
from tests.engines.reference import Reference

COUNT, BAD = 500, {17: b"no image", 250: b"", 499: b"\xff\xd8 the start of a JPEG"}
CLI_OPTIONS = {"masks": "rle", "sem_seg": "png", "extra": "json"}
MAIN = "from d2serve.cli.main import main; main()"

Show = Callable[[int, int], None]


@pytest.fixture(scope="module", autouse=True)
def _environment() -> Iterator[None]:
    """Ray writes no token into the home folder, and tells its makers nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        yield


@pytest.fixture(scope="module")
def cluster(_environment: None) -> Iterator[Cluster]:
    """A head with a core, and a port for clients from elsewhere, and two more nodes."""
    head = {"num_cpus": 1, "ray_client_server_port": _free_port()}
    made = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(2):
            made.add_node(num_cpus=1)
        yield made
    finally:
        made.shutdown()


@pytest.fixture(scope="module")
def photos(reference: Reference, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """500 images, three of them broken; the name ends with that of the image it is a copy of."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(COUNT):
        original = reference.images[number % len(reference.images)]
        file = folder / f"{number:03d}-{original.name}"
        if number in BAD:
            file.write_bytes(BAD[number])
        else:
            shutil.copy(original, file)
    return folder


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def answered(
    reference: Reference, photos: Path, output: Path, address: str, share: Share, show: Show
) -> Results:
    job = Job.of(reference.archive, {})
    images = list(find_images(str(photos)))
    return run(job, str(photos), images, str(output), on_ray(address, share), show)


def check_all(results: Results, reference: Reference, options: Options | None = None) -> None:
    """Each of the 500 once, three with errors, and all others as TorchServe answers."""
    job = Job.of(reference.archive, options or {})
    rows = list(results.rows())
    paths = Counter(Path(row["path"]).name for row in rows)
    assert len(paths) == COUNT
    assert set(paths.values()) == {1}
    codes = {Path(row["path"]).name[:3]: row["error_code"] for row in rows if row["error_code"]}
    assert codes == {
        "017": "unsupported_image_format",
        "250": "empty_request",
        "499": "invalid_image",
    }
    found = 0
    for row in rows:
        if row["error_code"] is None:
            torchserve = reference.answers[Path(row["path"]).name[4:]]
            reply = reply_of(row, job.spec, job.version, job.options)
            assert reply == torchserve.replace(b'"request_id":"",', b"")
            found += len(row["instances"])
    assert found > COUNT


def test_a_node_is_lost(
    cluster: Cluster, reference: Reference, photos: Path, tmp_path: Path
) -> None:
    nodes = [cluster.add_node(num_cpus=1)]

    def show(done: int, _total: int) -> None:
        if done >= 60 and nodes:
            cluster.remove_node(nodes.pop(), allow_graceful=False)

    results = answered(reference, photos, tmp_path / "r", cluster.address, Share(), show)
    assert not nodes, "it was lost while there was work"
    check_all(results, reference)


def test_an_actor_and_a_model_are_killed(
    cluster: Cluster, reference: Reference, photos: Path, tmp_path: Path
) -> None:
    killed: list[str] = []

    def show(done: int, _total: int) -> None:
        if done >= 60 and not killed:
            first, second, *_ = _actors()
            (model,) = _models(first)
            killed.extend(("model", "actor"))
            model.kill()
            second.kill()

    results = answered(reference, photos, tmp_path / "r", cluster.address, Share(), show)
    assert killed == ["model", "actor"]
    check_all(results, reference)


def _actors() -> list[psutil.Process]:
    """Of Ray below this test, those that have a model."""
    below = psutil.Process().children(recursive=True)
    return [each for each in below if _models(each) and "ray::" in "".join(each.cmdline())]


def _models(process: psutil.Process) -> list[psutil.Process]:
    try:
        children = process.children()
        return [each for each in children if "spawn_main" in " ".join(each.cmdline())]
    except psutil.NoSuchProcess:
        return []


def test_the_driver_is_killed_and_the_same_command_goes_on(
    cluster: Cluster, reference: Reference, photos: Path, tmp_path: Path
) -> None:
    output = tmp_path / "r"
    command = [sys.executable, "-c", MAIN, "batch", str(reference.archive), str(photos)]
    command += ["--output", str(output), "--ray-address", cluster.address]
    driver = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        until = time.monotonic() + 180
        while len(list(output.glob("part-*"))) < 2 and time.monotonic() < until:
            time.sleep(0.05)
        assert driver.poll() is None
    finally:
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
    job = Job.of(reference.archive, CLI_OPTIONS)
    kept = sum(Results(Folder(str(output)), job.schema).codes.values())
    assert 0 < kept < COUNT
    again = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert again.returncode == 0, again.stderr
    assert f"500 images, {kept} of them before: 497 answered, 3 failed." in again.stdout
    check_all(Results(Folder(str(output)), job.schema), reference, CLI_OPTIONS)


def test_from_elsewhere(cluster: Cluster, reference: Reference, tmp_path: Path) -> None:
    """Over ray://, by which a driver is no part of the cluster."""
    few = tmp_path / "few"
    few.mkdir()
    for image in reference.images[:20]:
        shutil.copy(image, few)
    port = cluster.head_node._ray_params.ray_client_server_port
    address = f"ray://{cluster.head_node.node_ip_address}:{port}"
    results = answered(reference, few, tmp_path / "r", address, Share(), lambda *_: None)
    job = Job.of(reference.archive, {})
    replies = {
        Path(row["path"]).name: reply_of(row, job.spec, job.version, {}) for row in results.rows()
    }
    assert replies == {
        name: reference.answers[name].replace(b'"request_id":"",', b"")
        for name in (image.name for image in reference.images[:20])
    }


def test_nodes_run_the_code_of_the_command(cluster: Cluster) -> None:
    """Not what is installed there, if anything is."""

    def where() -> str:
        from d2serve.server.batch import processes

        return str(processes.__file__)

    with code_to_ship() as code:
        environment = {"py_modules": [str(code)]}
        ray.init(cluster.address, runtime_env=environment, log_to_driver=False)
        try:
            assert "py_modules" in ray.get(ray.remote(where).remote())
        finally:
            ray.shutdown()


@pytest.mark.parametrize(
    ("share", "said"),
    [
        (Share(cpus=2), "room for 0 workers of 2 CPUs"),  # each node has one
        (Share(workers=9), "expected room for 9"),
        (Share(gpus=1), "room for 0 workers of 1 CPUs and 1 GPUs"),
    ],
)
def test_a_cluster_that_is_too_small_is_refused(
    cluster: Cluster, reference: Reference, photos: Path, tmp_path: Path, share: Share, said: str
) -> None:
    with pytest.raises(BatchRefused, match=said):
        answered(reference, photos, tmp_path / "r", cluster.address, share, lambda *_: None)
    assert not ray.is_initialized()


def test_no_cluster_there(reference: Reference, photos: Path, tmp_path: Path) -> None:
    address = f"127.0.0.1:{_free_port()}"
    with pytest.raises(BatchRefused, match="No Ray cluster answers at"):
        answered(reference, photos, tmp_path / "r", address, Share(), lambda *_: None)
