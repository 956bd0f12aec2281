"""The platforms that an archive can be packaged for, and what each wants beside the archive.

The templates lie in folders of the targets' names. ``$name`` in them is replaced; what an engine
itself is to replace is written ``$$name``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from d2serve.handlers.spec.model_spec import ModelSpec
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
    more: Callable[[ModelSpec, str, str], Mapping[str, str]] | None = None
    """Makes what follows from the spec, name and version of the model: the text of files, by their
    paths."""

    def templates(self) -> list[Path]:
        return sorted((TEMPLATES / self.name).glob(f"*{_ENDING}"))


def written_name(template: Path) -> str:
    """The name of the file that a template becomes."""
    return template.name[: -len(_ENDING)]


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
        "app",
        "docker build and push this folder, then kubectl apply -f rayservice.yaml",
    ),
    Target(
        "triton",
        "models/$name/$number/$file",
        "models/$name/$number",
        "pip install -r requirements.txt for the Python of Triton's Python backend, then "
        "tritonserver --model-repository=models",
        repository.files_of,
    ),
)
TARGETS = {target.name: target for target in _TARGETS}
