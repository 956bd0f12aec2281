"""What pyproject.toml cannot say: the description on the package page, and the native kernels.

The description is the README, with its links made to work away from here. A package page
shows no relative link and no picture of the repository. Where pyproject.toml names a Repository,
they become addresses of this version there; otherwise a link becomes its text with the path, and
the picture is left out.

The kernels are a plain shared library, which ctypes loads: it belongs to no version of Python, and
chooses its instructions when it runs. Without a C++ compiler, or on Windows, the package is built
without it, and works (docs/kernels.md).
"""

from __future__ import annotations

import os
import platform
import re
import sys
from pathlib import Path
from typing import Any

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?://|#)([^)\s]+)\)")


def package_page(readme: str, repository: str | None, version: str) -> str:
    """The README with links and pictures that work on a package page.

    Args:
        readme: Markdown, with links relative to the root of the repository.
        repository: its web address, laid out as GitHub does; None where there is none.
        version: whose tag, ``v`` and the version, the links lead to.
    """

    def replaced(link: re.Match[str]) -> str:
        is_picture, text, path = bool(link.group(1)), link.group(2), link.group(3)
        if repository is not None:
            kind = "raw" if is_picture else "blob"
            return f"{link.group(1)}[{text}]({repository.rstrip('/')}/{kind}/v{version}/{path})"
        return "" if is_picture else f"{text} (`{path.partition('#')[0]}`)"

    return _LINK.sub(replaced, readme)


KERNELS = "d2serve.kernels._native"
_FLAGS = ("-std=c++17", "-O3", "-g0", "-ffp-contract=off", "-fvisibility=hidden", "-pthread")
_OF_ONE_FILE = {
    "avx2": ("-mavx2", "-mfma"),
    "avx512": ("-mavx2", "-mfma", "-mavx512f", "-mavx512vl", "-mavx512dq", "-mavx512bw"),
}
"""Only in these files: the rest must run on every CPU."""


class BuildKernels(build_ext):
    """Compiles each file with the instructions that it alone may use."""

    def get_ext_filename(self, fullname: str) -> str:
        """One name for every Python, since it is no module of any."""
        return os.path.join(*fullname.split(".")) + ".so"  # noqa: PTH118, as build_ext joins

    def build_extension(self, ext: Extension) -> None:
        """Compile and link; ``build_ext`` warns of what fails, as the extension is optional."""
        is_x86_linux = sys.platform == "linux" and platform.machine() == "x86_64"
        objects: list[str] = []
        for source in ext.sources:
            flags = _OF_ONE_FILE.get(Path(source).stem, ()) if is_x86_linux else ()
            objects += self.compiler.compile(
                [source],
                output_dir=self.build_temp,
                extra_postargs=[*_FLAGS, *flags],
                depends=ext.depends,
            )
        self.compiler.link_shared_object(
            objects, self.get_ext_fullpath(ext.name), extra_postargs=["-pthread"], target_lang="c++"
        )


class TagWheel(bdist_wheel):
    """Names the wheel for the platform and every Python, or for all where it has no kernels."""

    def get_tag(self) -> tuple[str, str, str]:
        """What the file's name says of where it can be installed."""
        _, _, machine = super().get_tag()
        built: Any = self.get_finalized_command("build_ext")
        has_kernels = any(Path(file).is_file() for file in built.get_outputs())
        return "py3", "none", machine if has_kernels else "any"


def kernels() -> list[Extension]:
    """The native code, optional; none where it was never compiled."""
    if os.name == "nt":
        return []
    native = Path("kernels") / "native"
    sources = sorted(str(file) for file in native.glob("*.cpp"))
    headers = sorted(str(file) for file in native.glob("*.h"))
    return [Extension(KERNELS, sources, depends=headers, language="c++", optional=True)]


def _named_in_pyproject(name: str) -> str | None:
    # Not with tomllib, which Python 3.9 and 3.10 have not.
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    found = re.search(rf'^{name} = "([^"]+)"', text, re.MULTILINE)
    return found.group(1) if found else None


if __name__ == "__main__":
    setup(
        # By its name setuptools knows that this file, in the root, is no module of the package.
        script_name=Path(__file__).name,
        long_description=package_page(
            (ROOT / "README.md").read_text(encoding="utf-8"),
            _named_in_pyproject("Repository"),
            _named_in_pyproject("version") or "",
        ),
        long_description_content_type="text/markdown",
        ext_modules=kernels(),
        cmdclass={"build_ext": BuildKernels, "bdist_wheel": TagWheel},
    )
