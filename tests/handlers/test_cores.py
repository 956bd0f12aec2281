"""The cores that there really are for this process, by its affinity and its cgroups' quotas."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from d2serve.handlers import cores as cores_module
from d2serve.handlers.cores import available_cores, threads_wanted


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Eight cores, and no cgroups but those that a test writes below tmp_path."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)), raising=False)
    monkeypatch.setattr(cores_module, "_CGROUPS", tmp_path)
    monkeypatch.setattr(cores_module, "_OWN_CGROUPS", tmp_path / "own")
    return monkeypatch


@pytest.mark.parametrize(
    ("text", "cores"),
    [
        ("max 100000\n", 8),
        ("400000 100000\n", 4),
        ("150000 100000\n", 1),
        ("50000 100000\n", 1),
        ("3200000 100000\n", 8),
        ("", 8),
        ("garbage", 8),
        ("400000\n", 8),
    ],
)
@pytest.mark.usefixtures("machine")
def test_a_containers_quota_bounds_the_cores(tmp_path: Path, text: str, cores: int) -> None:
    (tmp_path / "cpu.max").write_text(text)
    assert available_cores() == cores


def test_cores_without_a_cgroup_and_without_affinity(machine: pytest.MonkeyPatch) -> None:
    assert available_cores() == 8
    machine.delattr(os, "sched_getaffinity")
    machine.setattr(os, "cpu_count", lambda: 6)
    assert available_cores() == 6
    machine.setattr(os, "cpu_count", lambda: None)
    assert available_cores() == 1


def version_1(folder: Path, quota: str, period: str = "100000") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (folder / "cpu.cfs_period_us").write_text(f"{period}\n")


@pytest.mark.parametrize("mount", ["cpu", "cpu,cpuacct", "cpuacct,cpu"])
@pytest.mark.parametrize(
    ("quota", "period", "cores"),
    [
        ("-1", "100000", 8),
        ("300000", "100000", 3),
        ("100000", "50000", 2),
        ("50000", "100000", 1),
        ("9900000", "100000", 8),
        ("300000", "0", 8),
        ("", "100000", 8),
        ("garbage", "100000", 8),
    ],
)
@pytest.mark.usefixtures("machine")
def test_a_quota_of_cgroup_version_1(
    mount: str, quota: str, period: str, cores: int, tmp_path: Path
) -> None:
    version_1(tmp_path / mount, quota, period)
    assert available_cores() == cores


@pytest.mark.usefixtures("machine")
def test_the_quota_of_an_own_cgroup_and_of_those_above_it(tmp_path: Path) -> None:
    (tmp_path / "own").write_text("0::/system.slice/d2serve.service\n")
    service = tmp_path / "system.slice" / "d2serve.service"
    service.mkdir(parents=True)
    (service / "cpu.max").write_text("600000 100000\n")
    assert available_cores() == 6
    (service.parent / "cpu.max").write_text("200000 100000\n")
    assert available_cores() == 2


@pytest.mark.usefixtures("machine")
def test_the_same_of_version_1_and_a_path_of_the_hosts(tmp_path: Path) -> None:
    (tmp_path / "own").write_text("7:memory:/m\n4:cpu,cpuacct:/docker/0a1b\n")
    version_1(tmp_path / "cpu,cpuacct", "500000")
    assert available_cores() == 5, "in a container the host's path is not there"
    version_1(tmp_path / "cpu,cpuacct" / "docker" / "0a1b", "400000")
    assert available_cores() == 4


@pytest.mark.parametrize(
    ("setting", "wanted"),
    [("3", 3), ("64", 64), ("", None), ("0", None), ("-1", None), ("many", None), ("²", None)],
)
def test_what_an_operator_wants(
    setting: str, wanted: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", setting)
    assert threads_wanted() == wanted
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert threads_wanted() is None
