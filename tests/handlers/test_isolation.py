"""The library that ships in every archive imports what it is allowed to, on Python 3.9 as well."""

from __future__ import annotations

import ast
import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

from d2serve import handlers

MODULES = sorted(module.name for module in pkgutil.iter_modules(handlers.__path__))
SOURCES = {name: Path(handlers.__path__[0], f"{name}.py") for name in [*MODULES, "__init__"]}

RUNTIMES = {
    "torchscript_runtime": {"torch", "torchvision"},
    "onnxruntime_runtime": {"onnxruntime"},
    "openvino_runtime": {"openvino"},
}

# The serve extra; cython_runtime is a name that compiled Cython modules leave behind.
ALLOWED = {"d2serve", "numpy", "PIL", "orjson", "simplejpeg", "cython_runtime"}

# Prints the top-level packages, other than Python's own, that importing a module brings in.
PROBE = """
import importlib, json, sys
before = set(sys.modules)
importlib.import_module("d2serve.handlers." + sys.argv[1])
names = {name.split(".")[0] for name in set(sys.modules) - before}
print(json.dumps(sorted(names - sys.stdlib_module_names)))
"""


def packages_imported_by(module: str, folder: Path) -> set[str]:
    told = subprocess.run(
        [sys.executable, "-c", PROBE, module],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return set(json.loads(told.stdout))


@pytest.mark.parametrize("module", [name for name in MODULES if not name.endswith("_runtime")])
def test_imports_of_a_fresh_interpreter(module: str, tmp_path: Path) -> None:
    imported = packages_imported_by(module, tmp_path)
    assert "d2serve" in imported
    extra = {name for name in imported - ALLOWED if not name.startswith("_")}
    assert not extra


@pytest.mark.parametrize("module", RUNTIMES)
def test_a_runtime_needs_its_own_package_and_no_detectron2(module: str, tmp_path: Path) -> None:
    imported = packages_imported_by(module, tmp_path)
    assert RUNTIMES[module] <= imported
    assert not imported & {"detectron2", "cv2", "pydantic", "ts", "fvcore", "yacs"}
    if module != "torchscript_runtime":
        assert "torch" not in imported


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


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_it_compiles_on_python_3_9(name: str) -> None:
    source = SOURCES[name].read_text(encoding="utf-8")
    tree = ast.parse(source, feature_version=(3, 9))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            keywords = {each.arg for each in node.keywords}
            assert not keywords & NEWER_KEYWORDS.get(node.func.id, set()), ast.unparse(node)
        if isinstance(node, ast.ImportFrom) and node.module == "typing":
            assert not {each.name for each in node.names} & NEWER_TYPING, ast.unparse(node)
        assert not isinstance(node, (ast.Match, ast.TryStar))


@pytest.mark.parametrize("name", MODULES)
def test_annotations_are_not_evaluated(name: str) -> None:
    """`X | None` in a signature is an error on Python 3.9 without it."""
    tree = ast.parse(SOURCES[name].read_text(encoding="utf-8"))
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    assert imports
    assert imports[0].module == "__future__"
    assert [each.name for each in imports[0].names] == ["annotations"]
