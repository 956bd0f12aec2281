"""The documentation site: `make docs`.

Sphinx reads the repository as it lies, so that a link of a page leads there on the site as it does
in the repository, and one that leads nowhere stops the build.
"""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

from sphinx.application import Sphinx

project = "d2serve"
author = "The d2serve maintainers"
release = version = metadata.version("d2serve")
root_doc = "docs/index"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
include_patterns = [
    "*.md",
    "benchmarks/README.md",
    "benchmarks/results/*.md",
    "docs/**.md",
    "examples/**.md",
    "model_store/README.md",
]
exclude_patterns = [".*", "**/.*", "build", "dist", "site", "**/__pycache__", "docs/_templates"]

myst_heading_anchors = 4
myst_enable_extensions = ["linkify"]
myst_linkify_fuzzy_links = False  # addresses only, not every word with a dot in it
copybutton_exclude = ".linenos, .gp"

# Docstrings are written as Google's style has it; what stands in `one pair` is code there, too.
default_role = "code"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_class_signature = "mixed"
python_display_short_literal_types = True
python_maximum_signature_line_length = 88

html_theme = "furo"
html_title = f"d2serve {release}"
html_copy_source = False
html_show_copyright = False
templates_path = ["_templates"]
# Pages keep the places that their sources have; the site's first page leads to them.
html_additional_pages = {"index": "first_page.html"}

_ROOT = Path(__file__).resolve().parents[1]
_LINK = re.compile(r"\[([^\]]+)\]\(([\w./-]+)\)")


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _folders_are_no_pages)


def _folders_are_no_pages(_app: Sphinx, docname: str, source: list[str]) -> None:
    """A link to a folder of the repository leads to its README, or is left out without one."""
    here = (_ROOT / docname).parent

    def replaced(link: re.Match[str]) -> str:
        text, target = link.groups()
        if not (here / target).is_dir():
            return link.group()
        page = f"{target.rstrip('/')}/README.md"
        return f"[{text}]({page})" if (here / page).is_file() else text

    source[0] = _LINK.sub(replaced, source[0])
