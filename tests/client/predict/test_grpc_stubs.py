"""TorchServe's gRPC definitions are compiled whatever else is in the process."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from d2serve.client.errors import StubsUnavailable
from d2serve.client.predict.grpc_stubs import inference_messages

IN_A_PROCESS = """
import tensorflow
from d2serve.client.predict.grpc_stubs import inference_messages
print(inference_messages().predictions_request(model_name="shapes").model_name)
"""


@pytest.mark.skipif(find_spec("tensorflow") is None, reason="TensorFlow is not installed")
def test_a_process_that_has_imported_tensorflow_can_ask_by_grpc() -> None:
    """In that process protoc ended it with a segmentation fault."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", IN_A_PROCESS],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stdout.split() == ["shapes"], (done.returncode, done.stderr[-500:])


def test_a_jar_whose_definitions_protoc_refuses_is_named(tmp_path: Path) -> None:
    jar = tmp_path / "other.jar"
    with zipfile.ZipFile(jar, "w") as archive:
        archive.writestr("proto/inference.proto", "message {")
    with pytest.raises(StubsUnavailable, match=r"inference\.proto of .*other\.jar.*Pass that of"):
        inference_messages(jar)
