"""Whatever fails is a sentence with the model's line, and a log with the rest of it."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from d2serve.export.errors import ExportError, ProgramError
from d2serve.export.failures import in_a_sentence, in_short, nothing_printed
from d2serve.export.programs.onnx import write_onnx
from d2serve.export.programs.scripting import script

GRAPHS = 'INTERNAL ASSERT FAILED at "/pytorch/torch/csrc/jit/ir/alias_analysis.cpp":618'


def fails_inside_torch() -> None:
    raise RuntimeError(f"0 {GRAPHS}, please report a bug to PyTorch. No op for aten::view\ngraph()")


def log_in(message: str) -> str:
    (path,) = re.findall(r"\S+\.log", message)
    text = Path(path).read_text()
    Path(path).unlink()
    return text


def test_what_is_not_expected_is_a_sentence_with_the_line_and_a_log() -> None:
    with pytest.raises(ExportError) as caught:
        in_a_sentence(fails_inside_torch)()
    message = str(caught.value)
    assert "INTERNAL ASSERT" not in message
    assert "\n" not in message
    assert f"{__file__}:" in message
    assert "in fails_inside_torch" in message
    log = log_in(message)
    assert "INTERNAL ASSERT" in log
    assert "Traceback" in log


def test_an_error_that_is_meant_is_left_alone() -> None:
    def refuses() -> None:
        raise ProgramError("as it is")

    with pytest.raises(ProgramError, match=r"^as it is$"):
        in_a_sentence(refuses)()


@pytest.mark.parametrize(
    ("text", "short"),
    [
        (f"0 {GRAPHS}, please report a bug to PyTorch. We have no op", "We have no op"),
        (f"{GRAPHS}, please report a bug to PyTorch. ", "it fails inside itself"),
        ('Unknown builtin op: aten::foo.\nCould not find:\n  File "a.py", line 3\n x', ""),
        ("", "RuntimeError"),
    ],
)
def test_what_torch_says_is_short(text: str, short: str) -> None:
    said = in_short(RuntimeError(text))
    assert said == short if short else said.startswith("Unknown builtin op: aten::foo")
    assert "\n" not in said
    assert "File" not in said


def test_nothing_reaches_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with nothing_printed() as printed:
        sys.stdout.write("from Python\n")
        sys.stderr.write("from Python, an error\n")
        os.write(1, b"native\n")
        os.write(2, b"native, an error\n")
        caught = printed()
    assert capfd.readouterr() == ("", "")
    for text in ("from Python", "from Python, an error", "native", "native, an error"):
        assert text in caught


class Refused(nn.Module):
    """Answers with what neither ONNX nor TorchScript has."""

    def forward(self, inputs: Any) -> Any:
        image = inputs[0]["image"]
        return [{"out": torch.special.bessel_j0(image) + sum(i for i in {1: 1} if i)}]


def test_no_graph_is_printed_where_onnx_has_no_operator(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ProgramError) as caught:
        write_onnx(Refused().eval(), ("out",), (torch.rand(3, 8, 8),), tmp_path / "x.onnx", {})
    out, err = capfd.readouterr()
    assert "graph" not in out + err
    assert "bessel_j0" in str(caught.value)
    assert len(str(caught.value)) < 700
    assert "Traceback" in log_in(str(caught.value))


def test_a_module_that_cannot_be_scripted_is_a_sentence(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(ProgramError) as caught:
        script(Refused().eval())
    assert capfd.readouterr() == ("", "")
    assert f"{__file__}:" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "Traceback" in log_in(str(caught.value))
