"""The description on the package page: the README, with its links made to work away from here.

Everything else stands in pyproject.toml. A package page shows no relative link and no picture of
the repository. Where pyproject.toml names a Repository, they become addresses of this version
there; otherwise a link becomes its text with the path, and the picture is left out.
"""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import setup

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
    )
