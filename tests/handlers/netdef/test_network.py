"""A network runs its operators in order, and what it cannot run is refused when it is read."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from d2serve.handlers.errors import LoadError, ModelFailed
from d2serve.handlers.netdef.messages import NetDef
from d2serve.handlers.netdef.network import Network
from tests.handlers.netdef.nets import fill, operator

FILLS = NetDef("init", (fill("w", [[2.0, 0.0], [0.0, 3.0]]), fill("b", [1.0, -10.0])))


def network(*operators: object, outputs: tuple[str, ...] = ("y",)) -> Network:
    net = NetDef("net", operators, (), ("x", "w", "b"), outputs)  # type: ignore[arg-type]
    return Network(net, FILLS)


FC = operator("FC", ["x", "w", "b"], ["1"])
RELU = operator("Relu", ["1"], ["y"])


def test_it_answers_its_outputs() -> None:
    made = network(FC, RELU, outputs=("y", "1"))
    assert made.inputs == ("x",)
    answer = made.run([torch.tensor([[1.0, 2.0]])])
    assert {name: value.tolist() for name, value in answer.items()} == {
        "y": [[3.0, 0.0]],
        "1": [[3.0, -4.0]],
    }


def test_a_tensor_may_be_written_over() -> None:
    """Upstream's tracer names tensors anew, and ONNX's own passes do not; Caffe2 takes either."""
    made = network(FC, operator("Relu", ["1"], ["1"]), operator("Add", ["1", "1"], ["y"]))
    assert made.run([torch.tensor([[1.0, 2.0]])])["y"].tolist() == [[6.0, 0.0]]


def test_what_nothing_takes_any_more_is_let_go() -> None:
    made = network(FC, RELU, operator("Copy", ["y"], ["unused"]), operator("Exp", ["y"], ["z"]))
    assert [each.last_used for each in made._operations] == [(), ("1",), ("unused",), ("z",)]


def test_two_calls_do_not_see_each_other() -> None:
    made = network(FC, RELU)
    one, other = (made.run([torch.full((1, 2), value)])["y"] for value in (1.0, 5.0))
    assert (one.tolist(), other.tolist()) == ([[3.0, 0.0]], [[11.0, 5.0]])


@pytest.mark.parametrize(
    ("operators", "reason"),
    [
        ([operator("Abacus", ["x"], ["y"])], "uses the operator Abacus, which d2serve does not"),
        (
            [operator("Abacus", ["x"], ["1"]), operator("Int8Conv", ["1"], ["y"])],
            "uses the operators Abacus, Int8Conv, which",
        ),
        ([FC, operator("Cast", ["1"], ["y"])], "the operator Cast that makes 'y' cannot be run"),
        ([operator("GenerateProposals", ["x"], ["y"], spatial_scale=0.0)], "division by zero"),
        ([RELU, FC], "the operator Relu takes '1', which no operator before it, no input"),
        ([FC], "names the output 'y', which no operator makes"),
    ],
)
def test_what_cannot_be_run_is_refused(operators: list[object], reason: str) -> None:
    with pytest.raises(LoadError, match=reason):
        network(*operators)


def test_weights_that_do_not_fit_are_refused() -> None:
    bad = replace(FILLS.op[0], arg=FILLS.op[0].arg[1:])
    with pytest.raises(LoadError, match=r"model_init.pb: the operator GivenTensorFill .*4 values"):
        Network(NetDef("net", (FC, RELU), (), ("x",), ("y",)), replace(FILLS, op=(bad,)))


def test_an_output_that_is_not_made_is_named() -> None:
    made = network(FC, operator("Relu", ["1"], ["y", "2"]))
    with pytest.raises(ModelFailed, match=r"Relu .*it makes 1 of 2 outputs"):
        made.run([torch.ones(1, 2)])


def test_an_operator_that_fails_is_named() -> None:
    with pytest.raises(ModelFailed, match=r"The operator FC that makes '1' failed \(.*shape"):
        network(FC, RELU).run([torch.zeros(1, 7)])
