"""What Triton's Python backend runs: the service of the archive beside this file.

`d2serve package --for triton` copies it into a model repository, with the archive and the archive's
own library. Triton starts a process for each instance, which imports this file and nothing else
of d2serve. It reads as the Open Inference Protocol's binary form what Triton hands over, and turns
the answer back into tensors; all between is the service's.
"""

from __future__ import annotations

import json
import sys
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

_HERE = Path(__file__).parent
sys.path.insert(0, str(_HERE))  # the archive's own library, also where a d2serve is installed

from d2serve.handlers.bundle import read_version  # noqa: E402
from d2serve.handlers.cores import available_cores, threads_wanted  # noqa: E402
from d2serve.handlers.detector import Detector  # noqa: E402
from d2serve.handlers.replies.reply import Reply  # noqa: E402
from d2serve.handlers.requests.request import INFER, Request  # noqa: E402
from d2serve.handlers.service import Service  # noqa: E402

_HANDLING = "d2serve"
"""The parameter with what the archive's model-config.yaml says of answering."""
_IMAGE = "image"
_PIXELS = "pixels"
"""The image's name where its pixels are sent: in Triton an input has one type."""
_DATATYPES = {"object": "BYTES", "float32": "FP32", "float64": "FP64"}
"""The protocol's names, by numpy's; the others are the same but for their case."""
_DTYPES = {datatype: dtype for dtype, datatype in _DATATYPES.items()}
_CODES = {500: "INTERNAL", 504: "CANCELLED"}
"""Triton's, by the reply's status. Every other is the caller's mistake, for which there is one."""


class TritonPythonModel:
    """One instance of the model; Triton makes it and calls its methods."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the archive on the device that Triton has for this instance, and warm it up.

        Raises:
            LoadError: it cannot be served here. Triton logs the message, and the model is not
                ready.
        """
        config = json.loads(args["model_config"])
        self._batched = config["max_batch_size"] > 0
        self._outputs = {each["name"] for each in config["output"]}
        on_gpu = args["model_instance_kind"] == "GPU"
        archive = next(_HERE.glob("*.mar"))
        instances = sum(each["count"] for each in config["instance_group"])
        told = config.get("parameters", {}).get(_HANDLING, {}).get("string_value")
        detector = Detector.open(
            archive,
            device=f"cuda:{args['model_instance_device_id']}" if on_gpu else "cpu",
            threads=threads_wanted() or max(1, available_cores() // instances),
            **json.loads(told or "{}"),
        )
        detector.warm_up()
        self._service = Service(detector, args["model_name"], read_version(archive))

    def execute(self, requests: list[Any]) -> list[Any]:
        """A response to each request; the model is asked for all their images at once."""
        replies = self._service.replies([self._request(each) for each in requests])
        return [self._response(each) for each in replies]

    def _request(self, given: Any) -> Request:
        inputs, contents = [], []
        for tensor in given.inputs():
            name, values = tensor.name(), tensor.as_numpy()
            is_text = values.dtype == np.object_
            data = pb_utils.serialize_byte_tensor(values) if is_text else values.tobytes()
            inputs.append(
                {
                    "name": _IMAGE if name == _PIXELS else name,
                    "datatype": _DATATYPES.get(values.dtype.name, values.dtype.name.upper()),
                    "shape": values.shape,
                    "parameters": {"binary_data_size": len(data)},
                }
            )
            contents.append(data or b"")
        call = {"inputs": inputs, "parameters": json.loads(given.parameters() or "{}")}
        # Triton names them all where the caller has named none.
        named = given.requested_output_names()
        if set(named) != self._outputs:
            call["outputs"] = [{"name": name} for name in named]
        text = json.dumps(call).encode()
        return Request(
            b"".join((text, *contents)),
            headers={"Inference-Header-Content-Length": str(len(text))},
            kind=INFER,
            id=given.request_id() or str(uuid.uuid4()),
        )

    def _response(self, reply: Reply) -> Any:
        said = json.loads(reply.body)
        if reply.status != 200:
            # Triton adds its classes to the module only after this file was imported.
            code = getattr(pb_utils.TritonError, _CODES.get(reply.status, "INVALID_ARG"))
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(said["error"], code))
        return pb_utils.InferenceResponse([self._tensor(**each) for each in said["outputs"]])

    def _tensor(self, name: str, datatype: str, shape: list[int], data: list[Any]) -> Any:
        values = [each.encode() for each in data] if datatype == "BYTES" else data
        array = np.array(values, _DTYPES.get(datatype, datatype.lower()))
        return pb_utils.Tensor(name, array.reshape([1, *shape] if self._batched else shape))
