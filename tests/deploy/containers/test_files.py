"""The files of deploy/ are what their engines take, and agree with each other."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tomllib
import yaml

from d2serve.server.torchserve import launch
from tests.conftest import ROOT

DEPLOY = ROOT / "deploy"
BASE = DEPLOY / "kubernetes" / "base"
OVERLAYS = sorted((DEPLOY / "kubernetes" / "overlays").iterdir())
KUBECTL = shutil.which("kubectl")
PROXY = (DEPLOY / "proxy.Dockerfile").read_text()
ANALYZE = shutil.which("systemd-analyze")
NOBODY = 10001
JAVAS_END = launch._GRACE_SECONDS  # then what is left of it is killed


def tool(name: str, *arguments: object) -> str:
    """What a tool of the environment says; fails where it finds fault."""
    command = [str(Path(sys.executable).with_name(name)), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("file", ["Dockerfile", "kserve.Dockerfile", "proxy.Dockerfile"])
def test_dockerfiles_are_linted(file: str) -> None:
    tool("hadolint", DEPLOY / file)


class TestImage:
    TEXT = (DEPLOY / "Dockerfile").read_text()

    def test_it_gets_each_runtime_by_what_the_extras_say(self, tmp_path: Path) -> None:
        (line,) = re.findall(r"environment/requirements\.py (.*?)--output", self.TEXT, re.DOTALL)
        extras = [word for word in line.split() if word != "\\"]
        assert extras == [
            "server",
            "onnxruntime",
            "openvino",
            "torchscript",
            "caffe2",
            "tensorflow",
        ]
        script = ROOT / "environment" / "requirements.py"
        subprocess.run([sys.executable, script, *extras, "--output", tmp_path], check=True)
        declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        server = (tmp_path / "server.txt").read_text().splitlines()
        assert not any("d2serve" in line for line in server)
        needed = {
            each
            for extra in ("client", "serve", "server")
            for each in declared["optional-dependencies"][extra]
            if not each.startswith("d2serve[")
        }
        assert set(server) == needed

    def test_what_the_wheel_is_made_of_is_not_ignored(self) -> None:
        kept = {
            line[1:]
            for line in (ROOT / ".dockerignore").read_text().splitlines()
            if line.startswith("!")
        }
        setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
        rooms = set(setuptools["package-dir"].values()) - {"."}
        assert rooms <= kept
        assert set(setuptools["package-data"]["d2serve"]) <= kept
        copied = re.findall(r"^COPY (deploy/\S+)", PROXY, re.MULTILINE)
        assert copied
        assert set(copied) <= kept
        assert all((ROOT / name).exists() for name in kept)

    def test_it_runs_as_nobody_and_waits_for_signals_itself(self) -> None:
        assert f"\nUSER {NOBODY}:{NOBODY}\n" in self.TEXT
        assert re.search(r"^ENTRYPOINT \[", self.TEXT, re.MULTILINE)
        assert "/ready" in self.TEXT.partition("HEALTHCHECK")[2]


def test_every_line_of_nginx_conf_that_the_proxys_image_changes_is_there() -> None:
    """A changed nginx.conf would otherwise reach the image as it is for a machine."""
    configuration = (DEPLOY / "nginx.conf").read_text()
    changes = re.findall(r"-e '(.*)'", PROXY)
    assert len(changes) == 8
    for change in changes:
        changed = subprocess.run(
            ["sed", "-e", change], input=configuration, capture_output=True, text=True, check=True
        ).stdout
        assert changed != configuration, change


def test_the_compose_file_is_one_and_is_confined() -> None:
    tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml")
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    for service in services.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["user"] == f"{NOBODY}:{NOBODY}"
        assert int(service["stop_grace_period"].rstrip("s")) > drain(services) + JAVAS_END


def drain(services: dict[str, Any]) -> float:
    command = services["server"]["entrypoint"]
    return float(command[command.index("--drain-seconds") + 1])


class TestKubernetes:
    @pytest.mark.parametrize("file", sorted(BASE.glob("[!k]*.yaml")), ids=lambda file: file.name)
    def test_manifests_are_valid(self, file: Path) -> None:
        assert "passed" in tool("kubernetes-validate", "--strict", file)

    @pytest.mark.skipif(KUBECTL is None, reason="needs kubectl, whose kustomize works offline")
    @pytest.mark.parametrize("folder", [BASE, *OVERLAYS], ids=lambda folder: folder.name)
    def test_as_kustomize_puts_them_together(self, folder: Path, tmp_path: Path) -> None:
        made = subprocess.run(
            ["kubectl", "kustomize", folder], capture_output=True, text=True, check=True
        ).stdout
        file = tmp_path / "all.yaml"
        file.write_text(made)
        assert tool("kubernetes-validate", "--strict", file).count("passed") == 6
        documents = {each["kind"]: each for each in yaml.safe_load_all(made)}
        pod = documents["Deployment"]["spec"]["template"]["spec"]
        server = pod["containers"][0]
        mounted = {mount["name"] for each in pod["containers"] for mount in each["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}
        if folder.name == "gpu":
            assert server["resources"]["limits"]["nvidia.com/gpu"] == 1
            assert server["image"].endswith(":cuda")
        if folder.name == "archives-in-image":
            assert "models" not in mounted
            assert server["image"].endswith("/shapes:1.0")

    def test_a_pod_is_given_the_time_that_a_stop_takes(self) -> None:
        pod = self.pod()
        server, proxy = pod["containers"]
        command = server["command"]
        drained = float(command[command.index("--drain-seconds") + 1])
        waited = float(server["lifecycle"]["preStop"]["exec"]["command"][1])
        assert pod["terminationGracePeriodSeconds"] > waited + drained + JAVAS_END
        assert proxy["lifecycle"] == server["lifecycle"]

    def test_it_is_confined(self) -> None:
        pod = self.pod()
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]

    def test_predictions_are_not_open_but_through_the_proxy(self) -> None:
        server, proxy = self.pod()["containers"]
        assert "--host" not in server["command"]
        assert [port["name"] for port in server["ports"]] == ["probes"]
        rules = yaml.safe_load((BASE / "network-policy.yaml").read_text())["spec"]["ingress"]
        opened = {port["port"] for rule in rules for port in rule["ports"]}
        assert opened == {port["name"] for port in proxy["ports"]}
        assert "from" in rules[1]

    def pod(self) -> dict[str, Any]:
        read = yaml.safe_load((BASE / "deployment.yaml").read_text())
        pod: dict[str, Any] = read["spec"]["template"]["spec"]
        return pod


class TestService:
    FILE = DEPLOY / "d2serve.service"

    def test_the_signal_to_stop_goes_to_one_process_that_has_the_time(self) -> None:
        settings = dict(re.findall(r"^(\w+)=(.*)$", self.FILE.read_text(), re.MULTILINE))
        assert settings["KillMode"] == "mixed"
        drained = float(settings["ExecStart"].partition("--drain-seconds ")[2])
        assert float(settings["TimeoutStopSec"]) > drained + JAVAS_END

    @pytest.mark.skipif(ANALYZE is None, reason="needs systemd-analyze, of Debian's systemd")
    def test_systemd_takes_it(self, tmp_path: Path) -> None:
        unit = tmp_path / self.FILE.name
        # It looks whether the program is there, which it is not on this machine.
        unit.write_text(self.FILE.read_text().replace("/opt/d2serve/bin/d2serve", sys.executable))
        verified = subprocess.run(
            ["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False
        )
        assert (verified.returncode, verified.stderr) == (0, "")
