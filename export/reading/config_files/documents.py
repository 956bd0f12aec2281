"""Reads one YAML file as data, whole or not at all.

detectron2 reads what PyYAML's safe loader refuses with its unsafe one, which runs whatever a tag
names. Here every file, ``_BASE_`` included, goes through the loader of ``tags``. Files that are no
config, and small ones that stand for endless data, are refused before they are put together.
"""

from __future__ import annotations

from typing import Any

import yaml
from detectron2.utils.file_io import PathManager

from d2serve.export.errors import ConfigError, one_line
from d2serve.export.reading.config_files.tags import Refused, loader_of
from d2serve.export.reading.file_kinds import config_problem

_MAX_BYTES = 4 << 20
_MAX_VALUES = 200_000  # once every alias is written out; detectron2's whole config has 300


def read_document(path: str, own_packages: frozenset[str] = frozenset()) -> dict[str, Any]:
    """A YAML file's mapping.

    Args:
        path: a file, or an address of detectron2's ``PathManager``.
        own_packages: see ``code_names.resolve``.

    Raises:
        ConfigError: it is no YAML, no mapping, holds code, or is too large.
    """
    with PathManager.open(path, "rb") as file:
        content: bytes = file.read(_MAX_BYTES + 1)
    problem = config_problem(content)
    if problem is not None:
        raise ConfigError(f"{path} {problem}")
    if len(content) > _MAX_BYTES:
        raise ConfigError(
            f"{path} is larger than {_MAX_BYTES >> 20} MB, expected a config. Is it a file of "
            "annotations? Give the YAML that training wrote."
        )
    try:
        loaded = _load(content, own_packages)
    except Refused as refused:
        raise ConfigError(f"{path}{_line(refused.mark)}: {refused}") from None
    except yaml.MarkedYAMLError as error:
        problem = error.problem or error.context or "it cannot be read"
        tab = " YAML indents with spaces, never with tabs." if "'\\t'" in str(problem) else ""
        raise ConfigError(
            f"{path}{_line(error.problem_mark)}: this is no YAML ({problem}).{tab} Expected a "
            "config as detectron2 writes it; mend that line."
        ) from error
    except yaml.reader.ReaderError as error:
        raise ConfigError(
            f"{path} is no text in UTF-8 or UTF-16 ({one_line(error, 120)}). Expected a YAML "
            "config: save it as UTF-8."
        ) from error
    except RecursionError:
        raise ConfigError(f"{path} is nested too deeply for a config.") from None
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise ConfigError(
            f"{path} has a value that cannot be read ({type(error).__name__}: "
            f"{one_line(error, 120)}). Expected a config as detectron2 writes it."
        ) from error
    if not isinstance(loaded, dict):
        got = "nothing" if loaded is None else f"a {type(loaded).__name__}"
        raise ConfigError(
            f"{path} holds {got}, expected a YAML mapping such as detectron2's configs: keys like "
            "MODEL, INPUT and DATASETS with what is below them."
        )
    return loaded


def _load(content: bytes, own_packages: frozenset[str]) -> Any:
    loader = loader_of(content, own_packages)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _expanded_size(node, {}, set())
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _expanded_size(node: yaml.Node, known: dict[int, int], open_nodes: set[int]) -> int:
    """How many values a node stands for once every alias is written out."""
    if id(node) in open_nodes:
        raise Refused(node.start_mark, "what is anchored here holds itself, so it has no end.")
    if id(node) not in known:
        open_nodes.add(id(node))
        children: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            children = node.value
        elif isinstance(node, yaml.MappingNode):
            children = [each for pair in node.value for each in pair]
        size = 1 + sum(_expanded_size(each, known, open_nodes) for each in children)
        open_nodes.discard(id(node))
        if size > _MAX_VALUES:
            raise Refused(
                node.start_mark,
                f"its aliases stand for more than {_MAX_VALUES:,} values, expected a config.",
            )
        known[id(node)] = size
    return known[id(node)]


def _line(mark: yaml.Mark | None) -> str:
    return "" if mark is None else f", line {mark.line + 1}"
