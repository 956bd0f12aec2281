"""Install d2serve's extras as `make` needs them: `python -m environment.install export,server`.

In an environment that `make` created, at the versions of constraints.txt. In any other, and
wherever the user has a detectron2 of their own, what is there goes on working: torch and
torchvision keep their versions, detectron2 keeps what it asks for, and its model zoo and compiled
operators work afterwards as they did before. Otherwise nothing is installed, and a sentence says
why.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import sysconfig
import tempfile
from pathlib import Path

from environment.detectron2_check import Detectron2, broken_since, installed_detectron2
from environment.packages import (
    PipError,
    broken_requirements,
    installed,
    normalised,
    pip,
    would_install,
)

ROOT = Path(__file__).resolve().parents[1]
MADE_BY_MAKE = Path(".d2serve") / "made"
"""A file in environments that `make` created."""

DETECTRON2_EXTRA = "detectron2-runtime"
_AS_THEY_ARE = ("torch", "torchvision", "torchaudio")
_PKG_RESOURCES = "setuptools<81"


def install(extras: str, if_missing: dict[str, str]) -> None:
    """Install ``d2serve[extras]`` from this folder, and a detectron2 where there is none.

    Args:
        extras: of pyproject.toml, separated by commas.
        if_missing: a package to install for each module that is not there.

    Raises:
        SystemExit: with a sentence that says what cannot be installed, and why.
    """
    there = installed_detectron2()
    wanted = [f".[{extras}]" if there and there.is_users_own else f".[{extras},{DETECTRON2_EXTRA}]"]
    wanted += [package for module, package in if_missing.items() if not _is_there(module)]
    made_by_make = (Path(sys.prefix) / MADE_BY_MAKE).exists()
    if made_by_make and not (there and there.is_users_own):
        _run_pip("install", "--quiet", "-c", "constraints.txt", *wanted)
    else:
        _install_beside(there, wanted)
    if there is None:
        _install_redistribution()


def _install_beside(there: Detectron2 | None, wanted: list[str]) -> None:
    """Install what is wanted, and leave what is there as it is, or say why that cannot be."""
    if there is not None and there.model_zoo is not None:
        raise SystemExit(_does_not_work(there, there.model_zoo))
    before, unmet = installed(), broken_requirements()
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "constraints.txt"
        constraints.write_text("\n".join(_held(before)) + "\n", encoding="utf-8")
        # pip keeps what a package asks for only where that package is asked for as well.
        kept = there and there.is_users_own and there.distribution
        asked = [*wanted, f"{kept}=={before[normalised(kept)]}"] if kept else wanted
        arguments = ("-c", str(constraints), *asked)
        try:
            new = would_install(*arguments)
        except PipError as error:
            raise SystemExit(_cannot_be_installed(there, before, str(error))) from None
        changed = {name: before[name] for name in new if before.get(name, new[name]) != new[name]}
        for name, version in changed.items():
            print(f"Replaces {name} {version} by {new[name]}, which what is installed takes too.")
        try:
            pip("install", "--quiet", *arguments)
            broken = broken_since(there, installed_detectron2()) if there else None
            others = "; ".join(sorted(broken_requirements() - unmet))
        except PipError as error:
            broken, others = str(error), ""
    if broken or others:
        _undo(before)
        raise SystemExit(
            f"After the installation {there or 'what was there'} would not work as before: "
            f"{broken or others}. The installation was undone. It had added or replaced: "
            f"{', '.join(f'{name} {version}' for name, version in sorted(new.items()))}. "
            "Use an environment without it: `make demo` makes one of its own."
        )


def _held(before: dict[str, str]) -> list[str]:
    """Constraints under which torch, and what was compiled for it, go on working."""
    held = [f"{name}=={before[name]}" for name in _AS_THEY_ARE if name in before]
    if "numpy" in before:
        held.append(f"numpy<{int(before['numpy'].split('.')[0]) + 1}")
    return [*held, _PKG_RESOURCES]


def _undo(before: dict[str, str]) -> None:
    now = installed()
    added = sorted(now.keys() - before.keys())
    if added:
        _run_pip("uninstall", "--quiet", "--yes", *added)
    replaced = [
        f"{name}=={version}" for name, version in before.items() if now.get(name) != version
    ]
    if replaced:
        _run_pip("install", "--quiet", "--no-deps", *replaced)


def _install_redistribution() -> None:
    """A detectron2 from the package registry, for the demo and the tests.

    pip refuses the wheel for its Python tag; without its compiled part it works on later Pythons,
    so it is unpacked as if for 3.10.
    """
    options = ("--no-deps", "--require-hashes", "--only-binary=:all:", "--python-version", "3.10")
    target = ("--target", sysconfig.get_path("purelib"))
    _run_pip("install", "--quiet", *options, *target, "-r", "requirements-detectron2.txt")
    there = installed_detectron2()
    failure = "it is not found" if there is None else there.model_zoo
    if failure is not None:
        raise SystemExit(f"The detectron2 that was installed does not work: {failure}")


def _run_pip(*arguments: str) -> None:
    try:
        pip(*arguments)
    except PipError as error:
        raise SystemExit(f"pip {arguments[0]} failed in {sys.prefix}:\n{error}") from None


def _is_there(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _does_not_work(there: Detectron2, failure: str) -> str:
    advice = "Mend it first"
    if "pkg_resources" in failure:
        advice = f"`{sys.executable} -m pip install '{_PKG_RESOURCES}'` brings pkg_resources back"
    return (
        f"Nothing was installed: {there} in {sys.prefix} does not work. Its model zoo fails with "
        f"{failure}. {advice}, or use another environment."
    )


def _cannot_be_installed(there: Detectron2 | None, before: dict[str, str], reason: str) -> str:
    kept = [str(there)] if there else []
    kept += [f"{name} {before[name]}" for name in _AS_THEY_ARE if name in before]
    return (
        f"Nothing was installed: d2serve cannot be installed beside {', '.join(kept)} in "
        f"{sys.prefix}. pip says which packages do not go together:\n{reason}\n"
        "Change those yourself, or use another environment: `make demo` makes one of its own."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("extras", help="of pyproject.toml, separated by commas")
    parser.add_argument(
        "--if-missing",
        metavar="MODULE=PACKAGE",
        action="append",
        default=[],
        help="install PACKAGE too where MODULE cannot be imported",
    )
    arguments = parser.parse_args()
    install(arguments.extras, dict(each.split("=") for each in arguments.if_missing))


if __name__ == "__main__":
    main()
