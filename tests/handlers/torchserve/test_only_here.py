"""The words of TorchServe's contract stand in its own folder of the library, and nowhere else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from d2serve import handlers

LIBRARY = Path(handlers.__path__[0])
OURS = LIBRARY / "torchserve"

# Beside these an import contract (pyproject.toml) keeps others from importing what stands here.
WORDS = (
    r"\bts_",
    r"ts_stream_next",
    r"get_all_request_header",
    r"get_request_id",
    r"set_response_\w+",
    r"system_properties",
    r"model_yaml_config",
    r"manifest",
    r"maxWorkers",
    r"model_service_worker",
    r"\[METRICS\]",
    r"\.get\(\"describe\"\)",
    r"\"model_name\"",
    r"import ts\b|from ts\b",
)
PERMITTED = {
    (r"\"model_name\"", "oip/replies.py"),  # the protocol's own name of a field
    (r"manifest", "bundle.py"),  # of the archive, which says its version there
}
NOWHERE = {r"import ts\b|from ts\b"}


@pytest.mark.parametrize("word", WORDS)
def test_a_word_of_the_contract(word: str) -> None:
    places = {
        file.relative_to(LIBRARY).as_posix()
        for file in LIBRARY.rglob("*.py")
        if re.search(word, file.read_text(encoding="utf-8"))
    }
    inside = {place for place in places if place.startswith("torchserve/")}
    outside = {place for place in places - inside if (word, place) not in PERMITTED}
    assert outside == set()
    assert inside or word in NOWHERE, "no word of the contract any more"
