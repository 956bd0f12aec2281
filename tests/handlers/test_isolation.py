"""The library that ships in every archive imports what it is allowed to, on Python 3.9 as well."""

from __future__ import annotations

import ast
import json
import os
import pkgutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from d2serve import handlers, kernels
from d2serve.handlers.spec.runtimes import CAFFE2, RUNTIMES
from tests.ways import installed

ROOM = "d2serve.handlers"
MODULES = sorted(each.name for each in pkgutil.walk_packages(handlers.__path__, f"{ROOM}."))
SOURCES = sorted(Path(handlers.__path__[0]).rglob("*.py"))

RUNTIME_MODULES = {facts.module for facts in RUNTIMES.values()}
# What only the module of one runtime imports, and needs its package.
FOR_ONE_RUNTIME = {
    f"{ROOM}.runtimes.{each}"
    for each in ("torch_threads", "torchvision_operators", "onnxruntime_memory")
}
# What runs Caffe2's networks on torch; of the modules above, only its runtime imports them.
ON_TORCH = (f"{ROOM}.netdef", f"{ROOM}.caffe2")
# What drives an NVIDIA GPU; only TensorRT's runtime imports it.
ON_A_GPU = f"{ROOM}.runtimes.gpu"

# The serve extra; cython_runtime is a name that compiled Cython modules leave behind.
ALLOWED = {"d2serve", "numpy", "PIL", "orjson", "simplejpeg", "cython_runtime"}

NEVER = {"detectron2", "cv2", "pydantic", "ts", "fvcore", "yacs"}

# Imports modules one after another, each as if it were the first of ours, and prints for each the
# packages, other than Python's own, that it is the first to bring in.
PROBE = """
import importlib, json, sys
brought = {}
for module in sys.argv[1:]:
    for name in [name for name in sys.modules if name.split(".")[0] == "d2serve"]:
        del sys.modules[name]
    before = set(sys.modules)
    importlib.import_module(module)
    names = {name.split(".")[0] for name in set(sys.modules) - before}
    brought[module] = sorted(names - sys.stdlib_module_names)
print(json.dumps(brought))
"""


def packages_brought_by(modules: Sequence[str], folder: Path) -> dict[str, set[str]]:
    """By module, in a fresh interpreter."""
    told = subprocess.run(
        [sys.executable, "-c", PROBE, *modules],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    found: dict[str, list[str]] = json.loads(told.stdout)
    return {module: set(names) for module, names in found.items()}


def test_no_module_brings_in_what_a_worker_may_lack(tmp_path: Path) -> None:
    """Each can also be imported first: there is no circle that only one order survives."""
    brought = packages_brought_by(
        [
            each
            for each in MODULES
            if each not in {*RUNTIME_MODULES, *FOR_ONE_RUNTIME}
            and not each.startswith((*ON_TORCH, ON_A_GPU))
        ],
        tmp_path,
    )
    assert len(brought) > 40
    for module, names in brought.items():
        assert "d2serve" in names, module
        assert {name for name in names - ALLOWED if not name.startswith("_")} == set(), module


def test_what_runs_on_torch_brings_in_no_more_than_torch(tmp_path: Path) -> None:
    brought = packages_brought_by([f"{ROOM}.caffe2"], tmp_path)[f"{ROOM}.caffe2"]
    assert {"torch", "torchvision"} <= brought
    assert not brought & NEVER


@pytest.mark.parametrize("runtime", installed(RUNTIMES))
def test_a_runtime_needs_its_own_package_and_no_detectron2(runtime: str, tmp_path: Path) -> None:
    facts = RUNTIMES[runtime]
    brought = packages_brought_by([facts.module], tmp_path)[facts.module]
    assert facts.package in brought
    assert not brought & NEVER
    assert ("torch" in brought) == facts.needs_torch
    # Its Python takes as long to import as torch, and TorchScript needs none of it.
    assert ("torchvision" in brought) == (runtime == CAFFE2)


def test_there_is_no_package_above_it() -> None:
    """A d2serve/__init__.py would hide the copy in the archive behind an installed one."""
    import d2serve

    assert d2serve.__file__ is None


# Beyond the grammar: what newer Pythons added to calls that are common here.
NEWER_KEYWORDS = {"zip": {"strict"}, "dataclass": {"slots", "kw_only"}}
NEWER_TYPING = {
    "TypeAlias", "ParamSpec", "Concatenate", "TypeGuard", "Self", "Never", "Unpack",
    "Required", "NotRequired", "LiteralString", "assert_never", "override", "TypeIs", "ReadOnly",
}  # fmt: skip


# With an archive's handlers the kernels run in the server's Python.
ON_A_SERVER = sorted([*SOURCES, *Path(kernels.__path__[0]).rglob("*.py")])


def test_every_file_runs_on_python_3_9() -> None:
    for file in ON_A_SERVER:
        tree = ast.parse(file.read_text(encoding="utf-8"), feature_version=(3, 9))
        for outer in tree.body:
            if isinstance(outer, ast.Assign) and isinstance(outer.value, ast.BinOp):
                where = f"{file}:{outer.lineno}: a type? Use Union, which is not evaluated as | is."
                assert not isinstance(outer.value.op, ast.BitOr), where
        for node in ast.walk(tree):
            where = f"{file}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                keywords = {each.arg for each in node.keywords}
                assert not keywords & NEWER_KEYWORDS.get(node.func.id, set()), where
            if isinstance(node, ast.ImportFrom) and node.module == "typing":
                assert not {each.name for each in node.names} & NEWER_TYPING, where
            assert not isinstance(node, (ast.Match, ast.TryStar)), where


def test_annotations_are_not_evaluated() -> None:
    """`X | None` in a signature is an error on Python 3.9 without it."""
    for file in ON_A_SERVER:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        if len(tree.body) <= 1 and file.name == "__init__.py":
            continue  # a docstring: nothing to annotate
        imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
        assert imports, file
        assert imports[0].module == "__future__", file
        assert [each.name for each in imports[0].names] == ["annotations"], file
