"""Runs an image as a container engine does: its own user and no other right, a root that cannot be
written, and its own processes and network. What it is made of is util-linux and iproute2."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from environment.image import Builder
from tests.conftest import ROOT

ADDRESS = "10.88.0.2"
"""Of the container, beside its loopback address."""
_NEEDS = ("unshare", "nsenter", "setpriv", "chroot", "ip")
# Docker's own --tmpfs does not let programs run from it either.
_SCRIPT = f"""
set -eu
root=$1; models=$2; place=$3; user=$4; folder=$5; shift 5
ip link set lo up
ip address add {ADDRESS}/32 dev lo
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=1777,nosuid,nodev,noexec,size=512m tmpfs "$root/tmp"
mount --bind "$models" "$root$place"
mount -o remount,bind,ro "$root$place"
mount -o remount,bind,ro "$root"
exec setpriv --no-new-privs chroot --userspec="$user" --groups= "$root" env -i -C "$folder" "$@"
"""


def lacking() -> str | None:
    """What is missing to run an image here, in words, or None where nothing is."""
    missing = [name for name in _NEEDS if shutil.which(name) is None]
    if missing:
        return f"{', '.join(missing)} not installed: apt-get install util-linux iproute2 coreutils"
    return None


@dataclass(frozen=True)
class Container:
    """A container that runs."""

    process: subprocess.Popen[bytes]
    pid: int
    """Of its first process, as this machine sees it."""
    config: Mapping[str, Any]
    healthcheck: tuple[str, ...]
    log: Path

    @property
    def root(self) -> Path:
        return Path(f"/proc/{self.pid}/root")

    @property
    def key_file(self) -> Path:
        """TorchServe's, where this machine sees it; its name in the container is a link."""
        link = self.root / str(self.config["WorkingDir"]).lstrip("/") / "key_file.json"
        return self.root / str(link.readlink()).lstrip("/")

    def is_healthy(self) -> bool:
        """Runs the image's own health check in it."""
        user, _, group = self.config["User"].partition(":")
        inside = (f"--root={self.root}", "--wd=/", f"--setuid={user}", f"--setgid={group}")
        command = ("env", "-i", *self.config["Env"], *self.healthcheck)
        return self._entered(*inside, *command).returncode == 0

    def on_its_network(self, *command: object) -> subprocess.CompletedProcess[str]:
        """Run a program of this machine there."""
        return self._entered(*map(str, command))

    def starts_on_its_network(self, *command: object) -> subprocess.Popen[str]:
        """As on_its_network, without waiting for the end."""
        return subprocess.Popen(
            self._enter(*map(str, command)),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def can_write(self, file: str) -> bool:
        """Whether its user, who may write everywhere in this question, finds room for a file."""
        try:
            (self.root / file.lstrip("/")).touch()
        except OSError as error:
            if error.errno != errno.EROFS:
                raise
            return False
        return True

    def status(self, field: str) -> str:
        """Of its first process: a line of /proc/PID/status."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        (value,) = (line.partition(":")[2] for line in lines if line.startswith(f"{field}:"))
        return value.strip()

    def stop(self) -> tuple[int, float]:
        """Send SIGTERM to its first process; returns its exit status and the seconds it took."""
        began = time.monotonic()
        os.kill(self.pid, signal.SIGTERM)
        return self.process.wait(120), time.monotonic() - began

    def wait_until(self, is_so: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not is_so():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.5)

    def _entered(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._enter(*command), cwd=ROOT, capture_output=True, text=True, check=False
        )

    def _enter(self, *command: str) -> list[str]:
        return ["nsenter", f"--target={self.pid}", "--net", *command]


@contextmanager
def running(
    builder: Builder, image: str, models: Path, log: Path, place: str = "/models"
) -> Iterator[Container]:
    """Run an image's own command with archives at a place; nothing of it is left afterwards."""
    described = json.loads(builder.run("inspect", "--type", "image", image))
    config = described["OCIv1"]["config"]
    kind, *healthcheck = described["Docker"]["config"]["Healthcheck"]["Test"]
    assert kind == "CMD"
    root = builder.run("mount", builder.run("from", image))
    own = ("--mount", "--pid", "--fork", "--ipc", "--uts", "--net", "--kill-child")
    where = (root, str(models), place, config["User"], config["WorkingDir"])
    command = ("unshare", *own, "sh", "-c", _SCRIPT, "sh", *where, *config["Env"])
    with log.open("w") as written:
        process = subprocess.Popen(
            [*command, *config["Entrypoint"], *(config.get("Cmd") or [])],
            stdout=written,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Container(process, _first(process.pid), config, tuple(healthcheck), log)
    finally:
        process.kill()  # and with it, by --kill-child, all that is in there
        process.wait()


def _first(parent: int) -> int:
    """The one child of a process."""
    children = Path(f"/proc/{parent}/task/{parent}/children")
    for _ in range(100):
        found = children.read_text().split()
        if found:
            return int(found[0])
        time.sleep(0.05)
    raise AssertionError(f"{parent} has started nothing")
