"""Runs TensorFlow programs, SavedModels and frozen graphs, on the CPU.

A program runs in a session, as in TensorFlow Serving: eager functions share one set of threads in a
process for life, and a session can have its own. Of TensorFlow only what sessions need is imported,
in one second; ``import tensorflow`` brings keras and what that finds installed, in six, and 260 MB
more.
"""

from __future__ import annotations

import importlib.machinery
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from d2serve.handlers.errors import LoadError
from d2serve.handlers.runtimes.details import Details, inputs_of
from d2serve.handlers.runtimes.raw_outputs import Float32, RawOutputs, Size
from d2serve.handlers.runtimes.sessions import Sessions
from d2serve.handlers.spec.model_spec import ModelSpec
from d2serve.handlers.spec.runtimes import RUNTIMES, TENSORFLOW

# Errors only: otherwise each worker's log begins with advice to compile TensorFlow oneself.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# A session has threads of its own for what is within an operator (local_device.cc).
os.environ.setdefault("TF_OVERRIDE_GLOBAL_THREADPOOL", "1")


@contextmanager
def _without_its_whole_interface() -> Iterator[None]:
    """Modules of TensorFlow can be imported alone; ``import tensorflow`` later brings all of it."""
    found = importlib.machinery.PathFinder.find_spec("tensorflow")
    if "tensorflow" in sys.modules or found is None or not found.submodule_search_locations:
        yield
        return
    alone = ModuleType("tensorflow")
    alone.__path__ = found.submodule_search_locations
    alone.__spec__ = found
    sys.modules["tensorflow"] = alone
    try:
        yield
    finally:
        if sys.modules.get("tensorflow") is alone:
            del sys.modules["tensorflow"]


with _without_its_whole_interface():
    from tensorflow.core.framework.graph_pb2 import GraphDef
    from tensorflow.core.protobuf.config_pb2 import ConfigProto
    from tensorflow.python.client.session import Session
    from tensorflow.python.framework.importer import import_graph_def
    from tensorflow.python.framework.ops import Graph
    from tensorflow.python.framework.versions import VERSION
    from tensorflow.python.saved_model import loader

_SIGNATURE, _TAG = "serving_default", "serve"


class _Program:
    """A session, and the names of its tensors by those of the spec."""

    def __init__(self, file: Path, spec: ModelSpec, threads: int) -> None:
        self.session = Session(graph=Graph(), config=_config(threads))
        with self.session.graph.as_default():
            if file.name == RUNTIMES[TENSORFLOW].main_file:
                self._load(file.parent)
            else:
                self._import(file, spec)
        self._check(file, spec)

    def _load(self, folder: Path) -> None:
        signatures = loader.load(self.session, [_TAG], str(folder)).signature_def
        signature = signatures[_SIGNATURE]
        self.inputs = {name: each.name for name, each in signature.inputs.items()}
        self.outputs = {name: each.name for name, each in signature.outputs.items()}

    def _import(self, file: Path, spec: ModelSpec) -> None:
        program = GraphDef.FromString(file.read_bytes())
        import_graph_def(program, name="")
        names = {node.name for node in program.node}
        placeholders = {node.name for node in program.node if node.op == "Placeholder"}
        self.inputs = {name: f"{name}:0" for name in placeholders}
        self.outputs = {name: f"{name}:0" for name in spec.outputs if name in names}

    def _check(self, file: Path, spec: ModelSpec) -> None:
        if set(self.inputs) != set(spec.inputs) or not set(spec.outputs) <= set(self.outputs):
            raise LoadError(
                f"{file.name} does not match its spec: it has the inputs {sorted(self.inputs)} and "
                f"outputs {sorted(self.outputs)}, expected the inputs {list(spec.inputs)} and the "
                f"outputs {list(spec.outputs)}. Export the model again."
            )


class TensorFlowRuntime:
    """A TensorFlow program on the CPU, in a session with a number of threads."""

    on_gpu = False

    def __init__(self, file: Path, spec: ModelSpec, threads: int) -> None:
        self._spec = spec
        self._programs = Sessions(partial(_loaded, file, spec), threads)
        self._programs.call(lambda _program: None)

    def set_threads(self, threads: int) -> None:
        """Use this many threads within an operator, from the next call on.

        That call makes the session again, which takes about as long as loading; it happens only
        when workers come or go.
        """
        self._programs.set_threads(threads)

    def run(
        self,
        images: Sequence[Float32],
        sizes: Sequence[Size] = (),
        details: Sequence[Details] = (),
    ) -> list[RawOutputs]:
        """See ``Runtime.run``; one image after the other. A session may be used by many threads."""
        return [
            self._programs.call(partial(self._run_one, each))
            for each in inputs_of(self._spec, images, sizes, details)
        ]

    def _run_one(self, given: tuple[object, ...], program: _Program) -> RawOutputs:
        named = dict(zip((program.inputs[name] for name in self._spec.inputs), given))
        wanted = {name: program.outputs[name] for name in self._spec.outputs}
        answers = program.session.run(wanted, named)
        return {name: np.asarray(answer) for name, answer in answers.items()}


def load(program: Path, spec: ModelSpec, device: str, threads: int) -> TensorFlowRuntime:
    """Load a TensorFlow program: a ``saved_model.pb`` with what lies beside it, or a frozen graph.

    Raises:
        LoadError: a GPU is asked for, this TensorFlow cannot read the program, or the program is
            not the one that its spec describes.
    """
    if device != "cpu":
        raise LoadError(
            f"Asked to run on {device}, but TensorFlow programs run on the CPU here. "
            "Start TorchServe without GPUs (number_of_gpu=0), or export with --format torchscript."
        )
    return TensorFlowRuntime(program, spec, threads)


def _loaded(file: Path, spec: ModelSpec, threads: int) -> _Program:
    try:
        return _Program(file, spec, threads)
    except LoadError:
        raise
    except Exception as error:  # TensorFlow and protobuf raise their own, without a common base
        exported_with = spec.versions.get("tensorflow", "an unknown version")
        raise LoadError(
            f"TensorFlow {VERSION} cannot load {file.name}, which was exported with TensorFlow "
            f"{exported_with} ({' '.join(str(error).split())[:300]}). "
            "Serve with that version, or export again with this one."
        ) from error


def _config(threads: int) -> Any:
    return ConfigProto(
        intra_op_parallelism_threads=threads,
        inter_op_parallelism_threads=1,
        use_per_session_threads=True,  # for the one beside them, too
        device_count={"GPU": 0},  # which would be taken whole, though nobody asked for it
    )
