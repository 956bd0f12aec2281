"""The application by its import path: `serve run`, KubeRay's configuration, SageMaker's layout."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from PIL import Image

from d2serve.handlers.requests.request import HTTP, Request
from d2serve.handlers.service import Service
from environment.beside import python_beside
from tests.engines.engines.ray_serving import (
    JPEG,
    MAIN,
    Serving,
    free_port,
    ray_served,
    serve_run,
)
from tests.engines.reference import MODEL, Reference, without_id
from tests.exports import ROOT


def packaged(reference: Reference, target: str, folder: Path) -> Path:
    words = ["package", str(reference.archive), "--for", target, "--output", str(folder)]
    subprocess.run([sys.executable, "-c", MAIN, *words], check=True, timeout=120)
    (made,) = folder.iterdir()
    return made


def scripted(folder: Path, version: str) -> Path:
    """A scripted program, which takes batches, as an archive that was extracted. It answers with
    the size of the batch as the class."""
    (folder / "MAR-INF").mkdir(parents=True)
    manifest = {"model": {"modelVersion": version}}
    (folder / "MAR-INF" / "MANIFEST.json").write_text(json.dumps(manifest))
    script = (
        "import sys, pathlib; from tests.handlers.programs import write_archive; "
        "write_archive(pathlib.Path(sys.argv[1]), 'scripting')"
    )
    command = [str(python_beside()), "-W", "ignore", "-c", script, str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=120)
    return folder


@pytest.fixture(scope="module")
def kuberay(reference: Reference, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """The package's own configuration, run with the code that lies beside it, from 1 to 2 replicas
    that come and go quickly."""
    folder = packaged(reference, "kuberay", tmp_path_factory.mktemp("made"))
    service = yaml.safe_load((folder / "rayservice.yaml").read_text())
    config: dict[str, Any] = yaml.safe_load(service["spec"]["serveConfigV2"])
    (application,) = config["applications"]
    application["args"]["archives"] = [str(folder / reference.archive.name)]
    application["args"].update(replicas="1:2", cpus_per_replica=0.5)
    quickly = {
        "min_replicas": 1,
        "max_replicas": 2,
        "target_ongoing_requests": 2,
        "upscale_delay_s": 1,
        "downscale_delay_s": 2,
        "metrics_interval_s": 0.5,
        "look_back_period_s": 1,
    }
    application["deployments"] = [{"name": f"{MODEL}-1.0", "autoscaling_config": quickly}]
    port = free_port()
    config["http_options"] = {"host": "127.0.0.1", "port": port}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    with serve_run(folder, ["config.yaml"], port, {"PYTHONPATH": str(folder / "app")}) as started:
        yield started


def test_kuberays_configuration_answers_as_torchserve(
    kuberay: Serving, reference: Reference
) -> None:
    for image in reference.images[:20]:
        answer = kuberay.ask(f"predictions/{MODEL}", image)
        assert without_id(answer.content) == reference.answers[image.name]


def test_replicas_follow_the_load_and_nothing_is_lost(
    kuberay: Serving, reference: Reference
) -> None:
    """One replica, two, and one again, with requests all the time."""
    replica = f"ray::ServeReplica:{MODEL.replace('_', '-')}:{MODEL}"
    seen: list[int] = []
    done = threading.Event()
    statuses: Counter[int] = Counter()

    def ask(images: list[Path]) -> None:
        while not done.is_set():
            for image in images:
                answer = kuberay.ask(f"predictions/{MODEL}", image)
                same = without_id(answer.content) == reference.answers[image.name]
                statuses[answer.status_code if same else -1] += 1

    def wait_for(count: int) -> None:
        until = time.monotonic() + 120
        while True:
            found = len(kuberay.children(replica))
            if found and seen[-1:] != [found]:  # none where a thread of Ray's ended meanwhile
                seen.append(found)
            if found == count:
                return
            assert time.monotonic() < until, (seen, count)
            time.sleep(0.2)

    wait_for(1)
    with ThreadPoolExecutor(12) as pool:
        for start in range(12):
            pool.submit(ask, reference.images[start::12][:5])
        try:
            wait_for(2)
        finally:
            done.set()
    done.clear()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(ask, reference.images[:5])
        try:
            wait_for(1)
        finally:
            done.set()
    sys.stdout.write(f"replicas {seen}: {dict(statuses)}\n")
    assert seen == [1, 2, 1]
    assert set(statuses) == {200}
    assert statuses[200] >= 50


def test_ctrl_c_ends_serve_run(kuberay: Serving) -> None:
    kuberay.stop(signal.SIGINT)
    assert kuberay.children("") == []


def test_sagemakers_image_runs_the_package(reference: Reference, tmp_path: Path) -> None:
    """As AWS's entrypoint does: the folder on PYTHONPATH, `serve run config.yaml` in it; and its
    adapter, which asks at the root and passes on some headers."""
    folder = packaged(reference, "sagemaker-ray", tmp_path / "made")
    model = tmp_path / "model"
    with tarfile.open(folder / "model.tar.gz") as packed:
        packed.extractall(model, filter="data")
    port = free_port()
    config = yaml.safe_load((model / "config.yaml").read_text())
    config["http_options"]["port"] = port
    (model / "config.yaml").write_text(yaml.safe_dump(config))
    image = reference.images[0]
    with serve_run(model, ["config.yaml"], port, {"PYTHONPATH": str(model)}) as started:
        answer = httpx.post(started.address, content=image.read_bytes(), headers=JPEG, timeout=60)
        assert without_id(answer.content) == reference.answers[image.name]
        attributes = {"X-Amzn-SageMaker-Custom-Attributes": "max_detections=1&masks=none"}
        answer = httpx.post(
            started.address, content=image.read_bytes(), headers={**JPEG, **attributes}, timeout=60
        )
        (instance,) = answer.json()["instances"]
        assert "segmentation" not in instance


def test_several_models_and_versions_and_batches(tmp_path: Path) -> None:
    """By the import path, with batches of a program on the CPU, where that is asked for."""
    archives = [scripted(tmp_path / "one", "1.0"), scripted(tmp_path / "two", "2.0")]
    words = [*archives, f"other={archives[0]}", "--batching", "always", "--batch-size", 4]
    image = tmp_path / "image.png"
    Image.new("RGB", (30, 20), (51, 51, 51)).save(image)
    with (
        ray_served(tmp_path, *words, "--cpus-per-replica", 0.25) as started,
        httpx.Client(base_url=started.address, timeout=120) as client,
    ):
        listed = client.get("/models").json()["models"]
        assert [(each["modelName"], each["modelVersion"]) for each in listed] == [
            ("shapes", "1.0"),
            ("shapes", "2.0"),
            ("other", "1.0"),
        ]
        asked = Request(image.read_bytes(), transport=HTTP, id="x")
        expected = Service.open(archives[0]).reply(asked).body

        def ask(path: str) -> bytes:
            answer = client.post(f"/predictions/{path}", content=image.read_bytes())
            assert answer.status_code == 200
            return without_id(answer.content)

        with ThreadPoolExecutor(16) as pool:
            found = list(pool.map(ask, ["shapes"] * 64))
        sizes = Counter(json.loads(each)["instances"][0]["category_id"] for each in found)
        sys.stdout.write(f"batches {dict(sizes)}\n")
        assert max(sizes) == 4  # some went together
        one = rb'"category_id":1'
        in_one = {re.sub(rb'"category_id":\d+', one, each) for each in found}
        assert in_one == {without_id(expected)}
        assert json.loads(ask("shapes/2.0"))["version"] == "2.0"
        assert json.loads(ask("other"))["model"] == "other"
        unnamed = client.post("/invocations", content=image.read_bytes())
        assert unnamed.status_code == 400


def test_batches_of_a_scripted_model_are_answered_as_alone(
    reference: Reference, tmp_path: Path
) -> None:
    """A trained model, exported by scripting. Images are of one size, since what a smaller one is
    padded to moves its boxes a little, in detectron2 as well."""
    script = (
        "import sys, pathlib; from tests.exports import source_of; "
        "from d2serve.export.pipeline import export; "
        "from d2serve.export.request import ExportRequest, Progress; "
        "export(ExportRequest(source=source_of('mask_rcnn_fpn'), method='scripting', "
        "name='scripted', output=pathlib.Path(sys.argv[1]), format='torchscript'), "
        "Progress(lambda _step, _parts: None, lambda: None))"
    )
    command = [str(python_beside()), "-W", "ignore", "-c", script, str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=600)
    archive, sizes = tmp_path / "scripted.mar", defaultdict[tuple[int, int], list[Path]](list)
    for image in reference.images:
        sizes[Image.open(image).size].append(image)
    images = max(sizes.values(), key=len)[:24]
    assert len(images) == 24
    service = Service.open(archive, threads=1)
    alone = [json.loads(service.reply(Request(image.read_bytes())).body) for image in images]
    words = ["--batching", "always", "--batch-size", 4, "--cpus-per-replica", 0.5]
    with ray_served(tmp_path, archive, *words) as started:
        with ThreadPoolExecutor(12) as pool:
            answers = pool.map(lambda image: started.ask("predictions/scripted", image), images)
            found = [json.loads(answer.content) for answer in answers]
        pid = started.children("ray::ServeReplica:d2serve-scripted")[0]
        logs = Path("/tmp/ray").glob("session_*/logs/serve/replica_*scripted*.log")
        lines = [line for log in logs for line in log.read_text().splitlines()]
        assert any(f"pid {pid}, threads 1, batches of 4" in line for line in lines)
        batches = Counter(re.findall(r"batch of (\d)", "".join(lines)))
    equal = 0
    for one, other in zip(alone, found):
        equal += one["instances"] == other["instances"]
        assert len(one["instances"]) == len(other["instances"])
        for left, right in zip(one["instances"], other["instances"]):
            assert left["category_id"] == right["category_id"]
            assert left["bbox"] == pytest.approx(right["bbox"], abs=0.01)
            assert left["score"] == pytest.approx(right["score"], abs=1e-4)
    sys.stdout.write(f"batches {dict(batches)}; {equal} of {len(images)} equal to the last digit\n")
    assert batches["4"]
    assert sum(len(each["instances"]) for each in found) > 24


def test_a_missing_ray_is_named(reference: Reference, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Without:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] == 'ray':\n"
        "            raise ModuleNotFoundError(\"No module named 'ray'\", name='ray')\n"
        "sys.meta_path.insert(0, Without())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "COLUMNS": "200"}
    asked = subprocess.run(
        [sys.executable, "-c", MAIN, "ray-serve", str(reference.archive)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert asked.returncode == 1
    assert "pip install 'd2serve[ray]'" in asked.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nothing.mar"], "There is no"),
        (["{archive}", "--replicas", "0"], "Got '0' replicas"),
        (["{archive}", "--replicas", "3:1"], "Got '3:1' replicas"),
        (["{archive}", "{archive}"], "are both mask_rcnn_fpn 1.0"),
        (["{archive}", "--batching", "always"], "one image at a time"),
        (["{archive}", "--batching", "often"], "expected one of auto, always, never"),
        (["{archive}", "--port", "{port}"], "Nothing can listen at 127.0.0.1"),
        (["{archive}", "--gpus-per-replica", "1.5"], "a part of one"),
        (["a/b={archive}"], "Give it another name"),
    ],
)
def test_what_cannot_be_served_is_told_at_once(
    words: list[str], told: str, reference: Reference, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        names = {"archive": reference.archive, "port": taken.getsockname()[1]}
        command = [word.format(**names) for word in words]
        asked = subprocess.run(
            [sys.executable, "-c", MAIN, "ray-serve", *command],
            env={**os.environ, "COLUMNS": "300"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    assert asked.returncode == 1
    assert told in asked.stderr
    assert "Traceback" not in asked.stderr


def test_a_machine_that_is_too_small_is_told(reference: Reference, tmp_path: Path) -> None:
    words = ["ray-serve", str(reference.archive), "--cpus-per-replica", "500"]
    port = ["--port", str(free_port())]
    asked = subprocess.run(
        [sys.executable, "-c", MAIN, *words, *port],
        env={**os.environ, "COLUMNS": "300"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert asked.returncode == 1
    assert "1 replicas need 500 CPUs, and this machine has" in asked.stderr


CLUSTER = """
import sys
from ray.cluster_utils import Cluster

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
cluster.add_node(num_cpus=1)
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


def test_a_cluster_of_two_machines(reference: Reference, tmp_path: Path) -> None:
    """It is used and left as it was."""
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    cluster = subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert cluster.stdout is not None
        address = next(line.strip() for line in cluster.stdout if ":" in line and " " not in line)
        words = [reference.archive, "--replicas", 2, "--ray-address", address]
        with ray_served(tmp_path, *words, environment=environment) as started:
            for image in reference.images[:5]:
                answer = started.ask(f"predictions/{MODEL}", image)
                assert without_id(answer.content) == reference.answers[image.name]
            assert started.stop() == 0
        assert cluster.poll() is None
    finally:
        cluster.communicate(timeout=60)


def test_the_commands_of_the_page(reference: Reference, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "ray_serve.md").read_text().replace("shapes", MODEL)
    blocks = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    store = tmp_path / "model_store"
    store.mkdir()
    shutil.copy(reference.archive, store)
    shutil.copy(reference.images[0], tmp_path / "photo.jpg")
    ours = f'd2serve() {{ "{sys.executable}" -c "{MAIN}" "$@"; }}\n'

    def run(line: str) -> str:
        command = ["bash", "-ec", ours + line]
        asked = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120
        )
        return asked.stdout

    for line in lines:
        if line.startswith("d2serve package"):
            run(line)
    assert {each.name for each in tmp_path.glob(f"{MODEL}-*")} == {
        f"{MODEL}-kuberay",
        f"{MODEL}-sagemaker-ray",
    }
    (serve, cluster) = (line.split()[2:] for line in lines if line.startswith("d2serve ray-serve"))
    assert cluster[1:3] == ["--replicas", "2:20"]
    with ray_served(tmp_path, *serve) as started:
        asking = [line for line in lines if line.startswith(("curl", "d2serve predict"))]
        assert len(asking) == 2
        for line in asking:
            if line.startswith("d2serve"):
                line += " --address http://127.0.0.1:8080"
            assert "triangle" in run(line.replace("http://127.0.0.1:8080", started.address))


@pytest.fixture(autouse=True)
def no_ray_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert shutil.which("ss")
