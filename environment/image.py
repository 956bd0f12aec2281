"""Builds the container image without a daemon and a registry: `python -m environment.image`, for
`make image`.

buildah builds deploy/Dockerfile in a chroot, on a base of Debian's packages that mmdebstrap makes,
or on one that is named. Everything lies in a private folder until the image is written as a file
that `docker load` and `podman load` take.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from environment.packages import pip

ROOT = Path(__file__).resolve().parents[1]
RUNTIMES = ("onnxruntime", "openvino", "torchscript")
_SUITE = "bookworm"  # whose Python is that of the Dockerfile's own base
_OF_AN_INDEX = (
    *("index-url", "extra-index-url", "find-links", "no-index", "constraint"),
    *("cert", "client-cert", "trusted-host", "timeout", "proxy"),
)
"""pip's settings that say where packages come from."""


def lacking() -> str | None:
    """What is missing to build an image here, in words, or None where nothing is."""
    for program in ("buildah", "mmdebstrap"):
        if shutil.which(program) is None:
            return f"{program} is not installed: apt-get install buildah mmdebstrap"
    if os.geteuid() != 0:
        return "it takes root, or `buildah unshare`: sudo make image"
    return None


class Builder:
    """buildah, with images and containers in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        where = ["--root", str(folder / "storage"), "--runroot", str(folder / "run")]
        self._buildah = ["buildah", "--storage-driver", "vfs", *where]

    def base(self) -> str:
        """Make an image of Debian with Python from Debian's packages; returns its name."""
        name = f"localhost/debian-{_SUITE}-python"
        container = self.run("from", "scratch")
        packages = "--include=python3,python3-venv"
        system = self.run("mount", container)
        _run(["mmdebstrap", "--quiet", "--variant=minbase", packages, _SUITE, system])
        self.run("config", "--env", "PATH=/usr/local/bin:/usr/bin:/bin", container)
        self.run("commit", "--quiet", "--format", "docker", "--rm", container, name)
        return name

    def build(
        self, runtime: str, base: str, arguments: Sequence[str] = (), file: str = "Dockerfile"
    ) -> str:
        """Build a file of deploy/ with this machine's settings of pip; returns the image's name.

        Args:
            runtime: of ``RUNTIMES``.
            base: the image to build on.
            arguments: further build arguments, as ``TORCH_INDEX=https://…``.
            file: its name.
        """
        name = f"localhost/d2serve:{runtime}"
        settings = self._folder / "pip.conf"
        settings.write_text(pip_settings(pip("config", "list")), encoding="utf-8")
        given = [f"RUNTIME={runtime}", f"BASE={base}", *arguments]
        self.run(
            *("build", "--quiet", "--isolation", "chroot", "--format", "docker"),
            *("--layers=false", "--secret", f"id=pip,src={settings}"),  # layers copy it all in vfs
            *(f"--volume={path}:{path}:ro" for path in local_paths(settings.read_text("utf-8"))),
            *(word for each in given for word in ("--build-arg", each)),
            *("--tag", name, "--file", str(ROOT / "deploy" / file), str(ROOT)),
        )
        return name

    def run(self, *arguments: str) -> str:
        """Run a command of buildah; returns what it prints."""
        return _run([*self._buildah, *arguments])


@contextmanager
def builder() -> Iterator[Builder]:
    """A builder whose images are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="d2serve-image-") as folder:
        made = Builder(Path(folder))
        try:
            yield made
        finally:
            made.run("rm", "--all")


def pip_settings(listed: str) -> str:
    """A pip.conf of where packages come from.

    Args:
        listed: what `pip config list` prints; the environment wins over files.
    """
    found = {}
    for line in sorted(listed.splitlines(), key=lambda line: line.startswith(":env:")):
        name, _, value = line.partition("=")
        key = name.rpartition(".")[2]
        if key in _OF_AN_INDEX:
            found[key] = value.strip("'\"").replace("\\n", " ")
    return "[global]\n" + "".join(f"{key} = {value}\n" for key, value in found.items())


def local_paths(settings: str) -> list[Path]:
    """The files and folders of this machine that a pip.conf names."""
    found = set()
    for word in settings.split():
        if word.startswith("file:"):
            # The parent: an index's pages lead to files beside it.
            found.add(Path(unquote(urlsplit(word).path)).parent)
        elif word.startswith("/") and Path(word).exists():
            found.add(Path(word))
    return sorted(found)


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{command[0]} failed with status {done.returncode}: see above.")
    return done.stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the container image without a daemon.")
    parser.add_argument("--runtime", choices=RUNTIMES, default=RUNTIMES[0])
    parser.add_argument("--base", help="an image to build on; by default one is made")
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--output", type=Path, required=True, help="the .tar to write")
    given = parser.parse_args()
    missing = lacking()
    if missing is not None:
        raise SystemExit(f"No image is built: {missing}.")
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.unlink(missing_ok=True)
    with builder() as made:
        image = made.build(given.runtime, given.base or made.base(), given.build_arg)
        target = f"docker-archive:{given.output}:d2serve:{given.runtime}"
        made.run("push", "--quiet", image, target)
    print(f"Wrote {given.output}. Load it: docker load --input {given.output}")


if __name__ == "__main__":
    main()
