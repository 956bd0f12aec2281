"""``d2serve package``: what it writes is what each platform takes, and runs as far as can be."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
import yaml
from typer.testing import CliRunner, Result

from d2serve.cli.app import app
from d2serve.cli.servers import kserving
from d2serve.server.asgi.routes import OIP_LIVE, OIP_READY, route_of
from d2serve.server.kserve.archives import find_archives
from d2serve.server.kserve.serving import Settings
from d2serve.server.packaging.targets import TARGETS
from d2serve.server.torchserve.config.ports import Ports
from tests.cli.small_archives import small_archive
from tests.conftest import ROOT
from tests.server.packaging.crds import SCHEMAS


def run(archive: Path, target: str, output: Path) -> Result:
    words = ["package", str(archive), "--for", target, "--output", str(output)]
    return CliRunner().invoke(app, words, env={"COLUMNS": "200"})


def packaged(archive: Path, target: str, output: Path) -> Path:
    result = run(archive, target, output)
    assert result.exit_code == 0, result.output
    (folder,) = output.iterdir()
    assert f"Wrote {folder}" in result.output
    return folder


def documents(folder: Path) -> Iterator[dict[str, Any]]:
    for file in sorted(folder.glob("*.yaml")):
        yield from yaml.safe_load_all(file.read_text())


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    store = tmp_path / "store"
    store.mkdir()
    return small_archive(store / "shapes.mar")


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_is_left_of_the_templates_and_dockerfiles_are_linted(
    archive: Path, target: str, tmp_path: Path
) -> None:
    folder = packaged(archive, target, tmp_path / "made")
    assert folder.name == f"shapes-{target}"
    with contextlib.suppress(FileNotFoundError), tarfile.open(folder / "model.tar.gz") as packed:
        packed.extractall(folder / "unpacked", filter="data")
    files = [*folder.iterdir(), *(folder / "unpacked").glob("*"), *folder.glob("*/code/*")]
    written = [file for file in files if file.is_file() and file.suffix != ".mar"]
    for file in written:
        if file.suffix != ".gz":
            text = file.read_text()
            assert "$" not in text.replace("${BASE}", "").replace("${IMAGE}", ""), file
            assert "shapes" in text
    for file in written:
        if file.name == "Dockerfile":
            hadolint = Path(sys.executable).with_name("hadolint")
            subprocess.run([hadolint, file], check=True)


def test_docker_gets_the_archive_as_it_is(archive: Path, tmp_path: Path) -> None:
    folder = packaged(archive, "docker", tmp_path / "made")
    assert {file.name for file in folder.iterdir()} == {"Dockerfile", "shapes.mar"}
    assert (folder / "shapes.mar").read_bytes() == archive.read_bytes()
    assert "ARG IMAGE=d2serve:torchscript\n" in (folder / "Dockerfile").read_text()


def test_sagemaker_gets_it_as_the_models_data(archive: Path, tmp_path: Path) -> None:
    folder = packaged(archive, "sagemaker", tmp_path / "made")
    with tarfile.open(folder / "model.tar.gz") as packed:
        (member,) = packed.getmembers()
        assert (member.name, member.uid, member.uname) == ("shapes.mar", 0, "")
        read = packed.extractfile(member)
        assert read is not None
        assert read.read() == archive.read_bytes()


@pytest.mark.parametrize("target", ["kserve", "kuberay"])
def test_custom_resources_have_what_their_definitions_name(
    archive: Path, target: str, tmp_path: Path
) -> None:
    folder = packaged(archive, target, tmp_path / "made")
    pods = []
    for document in documents(folder):
        assert set(document) == {"apiVersion", "kind", "metadata", "spec"}
        schema = SCHEMAS[f"{document['apiVersion']} {document['kind']}"]
        jsonschema.validate(document["spec"], schema)
        pods += list(pods_of(document))
    assert pods
    file = tmp_path / "pods.yaml"
    file.write_text(yaml.safe_dump_all(pods))
    validate = Path(sys.executable).with_name("kubernetes-validate")
    subprocess.run([validate, "--strict", file], check=True)


def pods_of(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The pods that a custom resource describes, as Kubernetes' own resources."""
    spec = document["spec"]
    if document["kind"] == "ServingRuntime":
        found = [{key: spec[key] for key in ("containers", "volumes")}]
    elif document["kind"] == "RayService":
        cluster = spec["rayClusterConfig"]
        groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
        found = [group["template"]["spec"] for group in groups]
    else:
        found = []
    for pod in found:
        yield {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a-pod"}, "spec": pod}


def test_kserves_two_resources_belong_together(archive: Path, tmp_path: Path) -> None:
    service, runtime = documents(packaged(archive, "kserve", tmp_path / "made"))
    model = service["spec"]["predictor"]["model"]
    assert model["runtime"] == runtime["metadata"]["name"] == "d2serve-torchscript"
    (takes,) = runtime["spec"]["supportedModelFormats"]
    assert model["modelFormat"].items() <= takes.items()
    folder = Path(model["storageUri"]).name
    assert (tmp_path / "made" / "shapes-kserve" / folder / "shapes.mar").is_file()


def test_kserves_container_runs_a_command_that_there_is(archive: Path, tmp_path: Path) -> None:
    """As the image has it, with what KServe writes into it."""
    _, runtime = documents(packaged(archive, "kserve", tmp_path / "made"))
    (container,) = runtime["spec"]["containers"]
    program, *words = container["command"]
    ports = [each["containerPort"] for each in container["ports"]]
    assert (program, ports) == ("d2serve", [Settings().http_port])
    words = [word.replace("{{.Name}}", "shapes") for word in words]
    words[words.index("/mnt/models")] = str(archive.parent)
    served: dict[str, Any] = {}

    def serve(models: list[str], name: str, settings: Settings, _say: object) -> None:
        served.update(found=find_archives(models, name), settings=settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kserving, "serve", serve)
        patch.setattr(kserving, "import_module", lambda _name: None)
        result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    (found,) = served["found"]
    assert (found.name, found.path) == ("shapes", archive)
    assert served["settings"].host == "0.0.0.0"
    probes = (container[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness"))
    assert {route_of(each["path"]).what for each in probes} == {OIP_LIVE, OIP_READY}


def test_rays_application_is_that_of_d2serve_itself(archive: Path, tmp_path: Path) -> None:
    """What it answers is shown by tests/engines/engines/test_ray_serve_app.py."""
    folder = packaged(archive, "kuberay", tmp_path / "made")
    (service,) = documents(folder)
    (application,) = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"]
    module, _, builder = application["import_path"].partition(":")
    code = (folder / "app" / module.replace(".", "/")).with_suffix(".py").read_text()
    assert f"def {builder}(" in code
    for name in application["args"]:
        assert f"    {name}: " in code
    assert application["args"]["archives"] == ["/app/shapes.mar"]
    assert (folder / "shapes.mar").is_file()
    version = service["spec"]["rayClusterConfig"]["rayVersion"]
    assert f"rayproject/ray:{version}-py311" in (folder / "Dockerfile").read_text()
    (parser,) = re.findall(
        r'ray = .*"(python-multipart[^"]*)"', (ROOT / "pyproject.toml").read_text()
    )
    assert parser in (folder / "requirements.txt").read_text().splitlines()


def test_the_code_that_goes_along_is_whole_and_needs_no_other(
    archive: Path, tmp_path: Path
) -> None:
    """All but Ray's own floor is imported, which has the same imports."""
    below = packaged(archive, "kuberay", tmp_path / "made") / "app"
    rooms = {file.relative_to(below).parts[:3] for file in below.rglob("*.py")}
    assert {parts[1] for parts in rooms} == {"client", "handlers", "server"}
    assert {parts[2] for parts in rooms if parts[1] == "server"} == {
        "__init__.py",
        "asgi",
        "ray_serve",
    }
    modules = "d2serve.server.asgi.application, d2serve.server.ray_serve.settings"
    asked = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import {modules}; print(d2serve.server.ray_serve.settings.__file__)",
        ],
        env={**os.environ, "PYTHONPATH": str(below)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert asked.stdout.startswith(str(below))
    imported = re.findall(
        r"^from (d2serve[.\w]+) import",
        "\n".join(file.read_text() for file in (below / "d2serve/server").rglob("*.py")),
        re.MULTILINE,
    )
    for module in imported:
        path = below / module.replace(".", "/")
        assert path.with_suffix(".py").is_file() or path.is_dir(), module


def test_sagemakers_image_for_ray_gets_all_as_the_models_data(
    archive: Path, tmp_path: Path
) -> None:
    folder = packaged(archive, "sagemaker-ray", tmp_path / "made")
    (file,) = folder.iterdir()
    with tarfile.open(file) as packed:
        members = packed.getmembers()
    names = {member.name for member in members}
    assert {"config.yaml", "deployment.py", "code/requirements.txt", "shapes.mar"} <= names
    assert "d2serve/server/ray_serve/app.py" in names
    assert {(member.uid, member.uname) for member in members} == {(0, "")}


@pytest.mark.server
def test_what_sagemaker_runs_and_asks_is_answered_without_a_token(
    archive: Path, archives: Path, tmp_path: Path
) -> None:
    """Its Dockerfile's own command, started as SageMaker does, with other ports and folders."""
    folder = packaged(archive, "sagemaker", tmp_path / "made")
    lines = (folder / "Dockerfile").read_text().splitlines()
    (entry,) = (line for line in lines if line.startswith("ENTRYPOINT "))
    command = json.loads(entry.partition(" ")[2])
    ports = Ports.free()
    options = {
        "inference-port": ports.inference,
        "management-port": ports.management,
        "metrics-port": ports.metrics,
        "grpc-port": ports.grpc_inference,
        "grpc-management-port": ports.grpc_management,
        "probe-port": 0,
    }
    model = tmp_path / "model"
    model.mkdir()
    shutil.copy(archives / "canned.mar", model)
    command[-1] = command[-1].replace("/opt/ml/model", str(model)).replace("0.0.0.0", "127.0.0.2")
    command[-1] += "".join(f" --{name} {value}" for name, value in options.items())
    scripts = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    log = tmp_path / "log"
    with log.open("w") as written:
        running = subprocess.Popen(
            [*command, "serve"],
            env={**os.environ, "PATH": scripts},
            cwd=tmp_path,
            stdout=written,
            stderr=subprocess.STDOUT,
        )
    try:
        until(lambda: "Serving canned" in log.read_text(), running, log)
        address = f"http://127.0.0.2:{ports.inference}"
        assert httpx.get(f"{address}/ping").status_code == 200
        image = {"Content-Type": "image/jpeg"}
        asked = httpx.post(f"{address}/invocations", content=b"x", headers=image)
        assert asked.status_code == 200
    finally:
        running.terminate()
        status = running.wait(60)
    assert status == 0, log.read_text()


def until(is_so: Callable[[], bool], running: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while not is_so():
        assert running.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("two words", "has the model 'two words'"),
        ("a\nRUN evil", "has the model"),
        ("$x", "'\\$x'"),
    ],
)
def test_names_that_would_be_read_as_something_else_are_refused(
    name: str, told: str, tmp_path: Path
) -> None:
    archive = small_archive(tmp_path / "x.mar", name)
    result = run(archive, "docker", tmp_path / "made")
    assert result.exit_code == 1
    assert told.replace("\\", "") in result.stderr
    assert not (tmp_path / "made").exists()


def test_nothing_is_overwritten(archive: Path, tmp_path: Path) -> None:
    folder = packaged(archive, "docker", tmp_path / "made")
    (folder / "Dockerfile").write_text("mine")
    again = run(archive, "docker", tmp_path / "made")
    assert again.exit_code == 1
    assert "is there already, and nothing is overwritten" in again.stderr
    assert (folder / "Dockerfile").read_text() == "mine"
    assert len(list((tmp_path / "made").iterdir())) == 1


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    result = run(ROOT / "README.md", "kserve", tmp_path / "made")
    assert result.exit_code == 1
    assert "d2serve export" in result.stderr
