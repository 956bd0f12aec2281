"""The platforms that an archive can be packaged for, and what each wants beside the archive.

The templates lie in folders of the targets' names. ``$name`` in them is replaced; what an engine
itself is to replace is written ``$$name``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from d2serve.client.own_handling import Handling
from d2serve.handlers.spec.model_spec import ModelSpec
from d2serve.server.annotating import cvat_nuclio
from d2serve.server.triton import repository

TEMPLATES = Path(__file__).with_name("templates")
_ENDING = ".in"  # so that no tool takes a template for what it becomes


@dataclass(frozen=True)
class Target:
    """One platform."""

    name: str
    archive: str
    """Where the archive goes; into a tar file, if the name is one's."""
    library: str | None
    """The folder for the archive's handler library, where the platform has no d2serve; or None."""
    next_steps: str
    """What to do with the files, with the values of the templates."""
    more: Callable[[ModelSpec, str, str, Handling], Mapping[str, str]] | None = None
    """Makes what follows from the spec, name and version of the model, and of how its archive is
    opened: the text of files, by their paths."""

    installed: tuple[str, ...] = ()
    """Packages of the d2serve that packages, which go along with all their modules: what runs the
    archive where no d2serve is installed, so that it is written once."""
    below: str = ""
    """The folder for those packages."""
    packed: str | None = None
    """The tar file that all of it goes into, or None."""

    def templates(self) -> list[tuple[Path, str]]:
        """Each, and the path of the file that it becomes."""
        folder = TEMPLATES / self.name
        found = sorted(folder.rglob(f"*{_ENDING}"))
        return [(each, each.relative_to(folder).as_posix()[: -len(_ENDING)]) for each in found]


_ON_RAY = ("d2serve.client", "d2serve.handlers", "d2serve.server.asgi", "d2serve.server.ray_serve")

_TARGETS = (
    Target(
        "docker",
        "$file",
        None,
        "docker build -t $dns_name:$version . && "
        "docker run --read-only --tmpfs /tmp -p 127.0.0.1:8080:8080 $dns_name:$version",
    ),
    Target(
        "kserve",
        "$dns_name/$file",
        None,
        "copy the folder $dns_name onto the volume d2serve-models, then kubectl apply -f .",
    ),
    Target(
        "sagemaker",
        "model.tar.gz",
        None,
        "docker build and push this folder, put model.tar.gz on S3, and create a model of both",
    ),
    Target(
        "kuberay",
        "$file",
        None,
        "docker build and push this folder, then kubectl apply -f rayservice.yaml",
        installed=_ON_RAY,
        below="app",
    ),
    Target(
        "sagemaker-ray",
        "$file",
        None,
        "put model.tar.gz on S3, and create a model of it and of AWS's image for Ray Serve",
        installed=_ON_RAY,
        packed="model.tar.gz",
    ),
    Target(
        "triton",
        "models/$name/$number/$file",
        "models/$name/$number",
        "pip install -r requirements.txt for the Python of Triton's Python backend, then "
        "tritonserver --model-repository=models",
        repository.files_of,
    ),
    Target(
        "cvat-nuclio",
        "$file",
        ".",
        "nuctl deploy --project-name cvat --path . --file function.yaml --platform local",
        cvat_nuclio.files_of,
    ),
)
TARGETS = {target.name: target for target in _TARGETS}
