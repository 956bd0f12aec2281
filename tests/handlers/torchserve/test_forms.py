"""What is left of a body that TorchServe took for a form, in pieces as TorchServe 0.12 cuts it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from d2serve.handlers.torchserve.forms import json_of


def pieces(text: str) -> dict[str, bytes]:
    """As TorchServe cuts it up."""
    cut = (each.partition("=") for each in text.replace("+", " ").split("&"))
    return {name: value.encode() for name, _, value in cut}


@pytest.mark.parametrize(
    "sent",
    [
        {"image": "AA=="},
        {"image": "AAA="},
        {"image": "AAAA"},
        {"image": "A+/A++++", "masks": "none", "classes": "a b"},
        {"masks": "none", "image": "data:image/png;base64,A+/="},
        {"image": "AAAA", "classes": "a&b=c&d", "score_thresh": 0.5},
        {"inputs": [{"name": "image", "data": ["AA=="]}]},
        {},
    ],
)
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_json_is_put_together_again(sent: Any, separators: tuple[str, str]) -> None:
    made = json_of(pieces(json.dumps(sent, separators=separators)))
    assert made is not None
    assert json.loads(made) == sent


@pytest.mark.parametrize(
    "fields", [{}, {"image": b"AAAA"}, {"\ufffdPNG": b"x"}, {"hello": b""}, {7: b""}]
)
def test_what_is_no_json(fields: Any) -> None:
    assert json_of(fields) is None
