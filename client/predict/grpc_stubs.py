"""gRPC message classes made from the definitions inside the installed TorchServe's own jar, so
that they are those of the server and no generated code has to be kept or copied.

protoc turns them into descriptors, which live in a pool of their own. Generated Python modules
would register themselves in protobuf's one global pool and clash with any other copy of
TorchServe's stubs in the same process; and a cache of generated code is code that someone could
change. Compiling takes 0.2 s, once a process, so nothing is kept on disk.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from d2serve.client.errors import StubsUnavailable

_DEFINITION = "inference.proto"
_PACKAGE = "org.pytorch.serve.grpc.inference"
PREDICTIONS_METHOD = f"/{_PACKAGE}.InferenceAPIsService/Predictions"
PING_METHOD = f"/{_PACKAGE}.InferenceAPIsService/Ping"


@dataclass(frozen=True)
class InferenceMessages:
    """The message classes of TorchServe's inference service."""

    predictions_request: type[Any]
    prediction_response: type[Any]
    empty: type[Any]
    health_response: type[Any]


def installed_jar() -> Path:
    """The jar of the torchserve package in this environment (nothing of it is imported)."""
    spec = importlib.util.find_spec("ts")
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        jar = Path(folder) / "frontend" / "model-server.jar"
        if jar.is_file():
            return jar
    raise StubsUnavailable(
        "The gRPC client takes its definitions from TorchServe's jar, and torchserve is not "
        "installed here. Either `pip install --no-deps torchserve`, or copy "
        "ts/frontend/model-server.jar from the server's machine and pass jar='model-server.jar', "
        "or use HTTP, which needs neither."
    )


def inference_messages(jar: str | os.PathLike[str] | None = None) -> InferenceMessages:
    """Compile the inference definitions of ``jar`` (default: the installed torchserve's)."""
    return _compile(Path(jar) if jar is not None else installed_jar())


@lru_cache(maxsize=8)
def _compile(jar: Path) -> InferenceMessages:
    try:
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    except ImportError as error:  # pragma: no cover - protobuf comes with grpcio-tools
        raise StubsUnavailable(_MISSING_TOOLS) from error
    files = descriptor_pb2.FileDescriptorSet.FromString(descriptor_set(jar, _DEFINITION))
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)

    def message(name: str) -> type[Any]:
        found: type[Any] = message_factory.GetMessageClass(pool.FindMessageTypeByName(name))
        return found

    return InferenceMessages(
        predictions_request=message(f"{_PACKAGE}.PredictionsRequest"),
        prediction_response=message(f"{_PACKAGE}.PredictionResponse"),
        empty=message("google.protobuf.Empty"),
        health_response=message(f"{_PACKAGE}.TorchServeHealthResponse"),
    )


def descriptor_set(jar: Path, definition: str) -> bytes:
    """One of the definitions in TorchServe's jar, compiled with all that it imports.

    Raises:
        StubsUnavailable: the jar has it not, or protoc does not compile it.
    """
    try:
        import grpc_tools
        from google.rpc import status_pb2
    except ImportError as error:
        raise StubsUnavailable(_MISSING_TOOLS) from error
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    google_apis = Path(status_pb2.__file__).parents[2]
    with tempfile.TemporaryDirectory(prefix="d2serve-protoc-") as folder:
        source, output = Path(folder) / definition, Path(folder) / "compiled.binpb"
        source.write_bytes(_read(jar, definition))
        # In a process of its own: in one that has imported TensorFlow, protoc finds TensorFlow's
        # protobuf in the place of its own, and the process dies.
        done = subprocess.run(
            [
                sys.executable,
                *("-m", "grpc_tools.protoc"),
                *(f"--proto_path={path}" for path in (folder, well_known, google_apis)),
                *("--include_imports", f"--descriptor_set_out={output}"),
                str(source),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            said = " ".join(done.stderr.split())[-300:]
            raise StubsUnavailable(
                f"protoc could not compile {definition} of {jar} ({said}). Was the jar damaged, or "
                "is it another program's? Pass that of the server: jar='model-server.jar'."
            )
        return output.read_bytes()


def _read(jar: Path, definition: str) -> bytes:
    try:
        with zipfile.ZipFile(jar) as archive:
            return archive.read(f"proto/{definition}")
    except (OSError, zipfile.BadZipFile, KeyError) as error:
        raise StubsUnavailable(
            f"{jar} holds no proto/{definition} ({error}): expected TorchServe's "
            "ts/frontend/model-server.jar."
        ) from error


_MISSING_TOOLS = (
    "The gRPC client needs grpcio, grpcio-tools and googleapis-common-protos: "
    "`pip install 'd2serve[client]'`."
)
