"""How many cores there really are: affinity, and a container's quota under either cgroup."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from d2serve.handlers import cores
from d2serve.handlers.cores import available_cores


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Eight cores, no quota."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)), raising=False)
    monkeypatch.setattr(cores, "_CGROUP", tmp_path)
    return monkeypatch


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max 100000\n", 8),
        ("400000 100000\n", 4),
        ("150000 100000\n", 1),
        ("50000 100000\n", 1),
        ("3200000 100000\n", 8),
        ("", 8),
        ("garbage", 8),
        ("400000\n", 8),
        ("400000 0\n", 8),
    ],
)
@pytest.mark.usefixtures("machine")
def test_a_containers_quota_bounds_the_cores(tmp_path: Path, text: str, expected: int) -> None:
    (tmp_path / "cpu.max").write_text(text)
    assert available_cores() == expected


@pytest.mark.parametrize(
    ("quota", "period", "expected"),
    [
        ("-1\n", "100000\n", 8),
        ("400000\n", "100000\n", 4),
        ("50000\n", "100000\n", 1),
        ("3200000\n", "100000\n", 8),
        ("400000\n", "0\n", 8),
        ("garbage", "100000\n", 8),
        ("400000\n", None, 8),
    ],
)
@pytest.mark.usefixtures("machine")
def test_as_cgroup_v1_has_it(tmp_path: Path, quota: str, period: str | None, expected: int) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    if period is not None:
        (tmp_path / "cpu" / "cpu.cfs_period_us").write_text(period)
    assert available_cores() == expected


def test_cores_without_a_cgroup_and_without_affinity(machine: pytest.MonkeyPatch) -> None:
    assert available_cores() == 8
    machine.delattr(os, "sched_getaffinity")
    machine.setattr(os, "cpu_count", lambda: 6)
    assert available_cores() == 6
    machine.setattr(os, "cpu_count", lambda: None)
    assert available_cores() == 1
