"""docs/requests.md says what the code does; tests/client does so for its errors."""

from __future__ import annotations

import re
from pathlib import Path

from d2serve.handlers.replies.fields import FIELDS, REPLY, OutputTensor
from d2serve.handlers.requests.options import OPTIONS, Option
from d2serve.handlers.spec.limits import DEFAULT_LIMITS, NAMES

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "requests.md").read_text()


def _rows(title: str) -> dict[str, str]:
    section = PAGE.split(f"## {title}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", section, re.MULTILINE)
    return {name: second.strip() for name, second in rows}


def option_rows() -> list[str]:
    return [
        f"| `{each.name}` | {each.help} | {_allowed(each)} | {_default(each)} |" for each in OPTIONS
    ]


def field_rows() -> list[str]:
    rows = [(f"`{each.name}`", each.tensor, each.meaning) for each in FIELDS]
    whole = "the whole JSON reply; with `draw`, and then by default, `content_type` and `picture`"
    return [
        f"| {name} | {_tensor(tensor)} | {meaning} |"
        for name, tensor, meaning in (*rows, ("", REPLY, whole))
    ]


def _allowed(option: Option) -> str:
    words = [f"`{word}` ({meaning})" for word, meaning in option.choices.items()]
    return ", ".join(words) or option.allowed


def _default(option: Option) -> str:
    return f"`{option.default}`" if option.default in option.choices else option.default


def _tensor(tensor: OutputTensor | None) -> str:
    if tensor is None:
        return "| |"
    letters = iter("NK")
    shape = ", ".join(next(letters) if size == -1 else str(size) for size in tensor.shape)
    return f"`{tensor.name}` | {tensor.datatype} | `[{shape}]`"


def test_every_option_is_there_as_it_is_described() -> None:
    section = PAGE.split("## Options\n")[1].split("\n## ")[0]
    assert re.findall(r"^\| `.*\|$", section, re.MULTILINE) == option_rows()


def test_every_limit_is_there_with_its_default() -> None:
    assert _rows("Limits") == {name: str(getattr(DEFAULT_LIMITS, name)) for name in NAMES}


def test_every_field_of_a_reply_is_there_with_its_tensor() -> None:
    section = PAGE.split("## Fields of a reply\n")[1].split("\n## ")[0]
    assert re.findall(r"^\| .*\|$", section, re.MULTILINE)[2:] == field_rows()
