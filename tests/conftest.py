"""What several rooms' tests share: held-out images, and archives exported once a session."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

# One thread on either side: eager detectron2's own answer depends on the number of threads, since
# sums are split differently (by 6e-5 px on mask_rcnn_dc5, and now and then by a pixel of a mask).
os.environ["OMP_NUM_THREADS"] = "1"

import pytest

if TYPE_CHECKING:
    from d2serve.export.config import ConfigSource

MODELS = (
    "faster_rcnn_fpn",
    "mask_rcnn_fpn",
    "keypoint_rcnn_fpn",
    "retinanet",
    "faster_rcnn_c4",
    "mask_rcnn_dc5",
)
METHODS = ("tracing", "scripting")
RUNTIMES = ("onnxruntime", "openvino")
KINDS = (*METHODS, *RUNTIMES)
"""Of archives: TorchScript by either method, and ONNX on either runtime."""
ROOT = Path(__file__).resolve().parent.parent

warnings.filterwarnings("ignore", message="pkg_resources is deprecated")


@dataclass(frozen=True)
class HeldOut:
    """Generated images that no model was trained on, in COCO format."""

    images: list[Path]
    annotations: Path


@pytest.fixture(scope="session", autouse=True)
def _in_the_repository_root() -> None:
    # The example configs name their weights from there.
    os.chdir(ROOT)


@pytest.fixture(scope="session")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> HeldOut:
    """200 held-out images of the shapes data set."""
    from examples.shapes.generate import generate_split

    folder = tmp_path_factory.mktemp("heldout")
    annotations = generate_split(folder, "heldout", 200)
    return HeldOut(sorted((folder / "images").glob("*.jpg")), annotations)


def config_of(model: str) -> Path:
    """The example model's config: YAML, or else a LazyConfig."""
    yaml = ROOT / "examples" / "shapes" / "models" / f"{model}.yaml"
    return yaml if yaml.is_file() else yaml.with_suffix(".py")


def source_of(model: str) -> ConfigSource:
    """The example model's config as the export takes it, with the data sets registered."""
    from d2serve.export.config import ConfigSource

    return ConfigSource(str(config_of(model)), imports=("examples.shapes.dataset",))


Exporter = Callable[[str, str], Path]


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exporter:
    """Exports an example model, once a session: ``exported(model, kind)`` is its .mar."""
    from d2serve.export.pipeline import export
    from d2serve.export.request import ExportRequest, Progress

    store = tmp_path_factory.mktemp("store")
    made: dict[tuple[str, str], Path] = {}

    def make(model: str, kind: str) -> Path:
        if (model, kind) not in made:
            request = ExportRequest(
                source=source_of(model),
                method=kind if kind in METHODS else "tracing",
                name=f"{model}_{kind}",
                output=store,
                format="torchscript" if kind in METHODS else "onnx",
                runtime=kind if kind in RUNTIMES else None,
            )
            quiet = Progress(lambda _step, _parts: None, lambda: None)
            made[model, kind] = export(request, quiet).archive
        return made[model, kind]

    return make
