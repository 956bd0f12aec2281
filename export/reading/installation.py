"""Says what is wrong with an installation of detectron2, and what to install.

`import detectron2` succeeds where nothing else does: parts of it import packages that its own
installation does not bring, and its compiled operators load only with the torch for which they were
compiled. Without this a user sees `No module named 'timm'` beside advice on something else.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from importlib import metadata

_INSTALL_PAGE = "https://github.com/facebookresearch/detectron2/blob/main/INSTALL.md"
_SOURCE = "git+https://github.com/facebookresearch/detectron2"

# By what is imported: what pip installs, and what needs it.
_PACKAGES = {
    "pkg_resources": ("setuptools<81", "detectron2's model zoo; newer setuptools lack it"),
    "cv2": ("opencv-python-headless", "PointRend and detectron2's data loading"),
    "timm": ("timm", "detectron2's ViT, MViT and Swin backbones"),
    "fvcore": ("fvcore", "detectron2"),
    "iopath": ("iopath", "detectron2"),
    "yacs": ("yacs", "detectron2's YAML configs"),
    "omegaconf": ("omegaconf", "detectron2's LazyConfigs"),
    "hydra": ("hydra-core", "the overrides of detectron2's LazyConfigs"),
    "cloudpickle": ("cloudpickle", "detectron2's LazyConfigs"),
    "pycocotools": ("pycocotools", "detectron2's COCO evaluation"),
    "matplotlib": ("matplotlib", "detectron2"),
    "tabulate": ("tabulate", "detectron2"),
    "termcolor": ("termcolor", "detectron2"),
    "tqdm": ("tqdm", "detectron2"),
    "scipy": ("scipy", "PointRend and TridentNet"),
    "shapely": ("shapely", "detectron2's Cityscapes evaluation"),
    "torchvision": ("torchvision", "detectron2"),
    "onnx": ("d2serve[export]", "exports to ONNX"),
    "model_archiver": ("d2serve[export]", "every export"),
    "yaml": ("d2serve[export]", "every export"),
    "orjson": ("d2serve[export]", "every export"),
    "simplejpeg": ("d2serve[export]", "every export"),
}

# detectron2's own projects, which register their parts when they are imported: how the names of
# those begin, the module, and a package that it needs beside detectron2's own.
_PROJECTS = (
    (("PointRend", "ImplicitPointRend", "CoarseMask", "StandardPointHead"), "point_rend", "cv2"),
    (("PanopticDeepLab",), "panoptic_deeplab", None),
    (("DeepLabV3", "build_resnet_deeplab"), "deeplab", None),
)

# How the dynamic linker says that a library was compiled for another torch.
_OTHER_TORCH = re.compile(r"undefined symbol|lib(?:torch|c10)\S*: cannot open|DLL load failed")
# How Python says that detectron2 is there without them.
_NO_OPERATORS = re.compile(r"cannot import name '_C' from 'detectron2'|'detectron2\._C'")


def advice_for(error: BaseException) -> str | None:
    """What to install where an import failed inside of detectron2 or an export.

    Args:
        error: the ImportError, or an error that one caused.

    Returns:
        Sentences, or None where the error is of another kind, or of a user's own module.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ImportError):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        return None
    if _OTHER_TORCH.search(str(cause)):
        return _compile_again()
    if _NO_OPERATORS.search(str(cause)):
        return (
            "This detectron2 has no compiled operators (detectron2._C), which what is imported "
            "needs. Compile detectron2 for the torch that is here, as its page says: "
            f"{_INSTALL_PAGE}"
        )
    name = (cause.name or "").partition(".")[0]
    is_missing = isinstance(cause, ModuleNotFoundError) and cause.name == name
    if name in ("detectron2", "torch") and is_missing:
        return (
            f"{name} is not installed for {sys.executable}. Install detectron2 and the torch that "
            f"it needs as its page says: {_INSTALL_PAGE}"
        )
    if name not in _PACKAGES:
        return None
    package, needed_by = _PACKAGES[name]
    return f"{name} is missing, which is needed by {needed_by}. Install it: pip install '{package}'"


def advice_on_unregistered(name: str) -> str:
    """What to import where nothing of a name is registered in detectron2.

    Args:
        name: of a model, head or backbone, or a message with it in quotes.
    """
    for beginnings, project, package in _PROJECTS:
        if re.search(rf"(?:^|')(?:{'|'.join(beginnings)})", name):
            advice = (
                "It is of a project of detectron2's that is imported only on request: "
                f"--import detectron2.projects.{project}"
            )
            if package is None or importlib.util.find_spec(package) is not None:
                return advice
            to_install, needed_by = _PACKAGES[package]
            return (
                f"{advice}. {package} is missing, which is needed by {needed_by}: pip install "
                f"'{to_install}'"
            )
    return "If it is yours, name the module that registers it: --import my.module"


def compiled_operators_problem() -> str | None:
    """Why detectron2's compiled operators, ``detectron2._C``, do not load although they are there.

    detectron2 then behaves as if it had none. None where they load, or where there are none.
    """
    if importlib.util.find_spec("detectron2._C") is None:
        return None
    try:
        importlib.import_module("detectron2._C")
    except ImportError as error:
        advice = advice_for(error) or f"They cannot be loaded: {error}."
        return f"detectron2's compiled operators are there, but cannot be used. {advice}"
    return None


def _compile_again() -> str:
    return (
        f"detectron2 was compiled for another torch than the installed {_version('torch')}. "
        "Install the torch that it was compiled for, or compile detectron2 again: pip install "
        f"--force-reinstall --no-deps --no-build-isolation '{_SOURCE}'"
    )


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "one"
