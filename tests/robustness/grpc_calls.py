"""TorchServe's gRPC calls that our client does not make: streams, and the Open Inference Protocol.

Their definitions are those in the server's own jar.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from d2serve.client.predict.grpc_stubs import descriptor_set, installed_jar
from d2serve.server.torchserve.process import TorchServeProcess

_INFERENCE = "org.pytorch.serve.grpc.inference"
_OPEN = "org.pytorch.serve.grpc.openinference"


def _pool(definition: str) -> Any:
    pool = descriptor_pool.DescriptorPool()
    compiled = descriptor_set(installed_jar(), definition)
    for file in descriptor_pb2.FileDescriptorSet.FromString(compiled).file:
        pool.Add(file)
    return pool


class GrpcCalls:
    """Calls of one server's model ``shapes``; replies are parsed JSON."""

    def __init__(self, server: TorchServeProcess) -> None:
        self._channel = grpc.insecure_channel(server.grpc_address)
        self._options: dict[str, Any] = {
            "metadata": [("authorization", f"Bearer {server.inference_token}")],
            "timeout": 60,
        }
        inference = _pool("inference.proto")
        opened = _pool("open_inference_grpc.proto")

        def message(pool: Any, name: str) -> Any:
            return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))

        self._request = message(inference, f"{_INFERENCE}.PredictionsRequest")
        response = message(inference, f"{_INFERENCE}.PredictionResponse")
        kinds = {
            "request_serializer": self._request.SerializeToString,
            "response_deserializer": response.FromString,
        }
        service = f"/{_INFERENCE}.InferenceAPIsService"
        self._predict = self._channel.unary_unary(f"{service}/Predictions", **kinds)
        self._stream = self._channel.unary_stream(f"{service}/StreamPredictions", **kinds)
        self._opened, self._message = opened, message

    def predict(self, **inputs: bytes) -> Any:
        request = self._request(model_name="shapes", input=inputs)
        return json.loads(self._predict(request, **self._options).prediction)

    def stream(self, **inputs: bytes) -> list[Any]:
        request = self._request(model_name="shapes", input=inputs)
        return [json.loads(each.prediction) for each in self._stream(request, **self._options)]

    def rpc(self, call: str, package: str = _OPEN, **fields: Any) -> Any:
        """Any call of the Open Inference Protocol, by its name."""
        return self._call(call, self._of_protocol(f"{call}Request")(**fields), package)

    def tensor(self, name: str, datatype: str, shape: Sequence[int], values: Sequence[int]) -> Any:
        """The Open Inference Protocol's request with one input of unsigned integers."""
        request = self._of_protocol("ModelInferRequest")(model_name="shapes", id="42")
        tensor = request.inputs.add(name=name, datatype=datatype, shape=shape)
        tensor.contents.uint_contents.extend(values)
        return request

    def of(self, request: Any) -> Any:
        """The answer to a request of the Open Inference Protocol."""
        return self._call("ModelInfer", request)

    def answer(self, **inputs: bytes | None) -> Any:
        """The answer to a request with inputs of type BYTES."""
        request = self._of_protocol("ModelInferRequest")(model_name="shapes", id="42")
        for name, content in inputs.items():
            if content is not None:
                tensor = request.inputs.add(name=name, datatype="BYTES", shape=[1])
                tensor.contents.bytes_contents.append(content)
        return self.of(request)

    def infer(self, image: bytes | None, **options: bytes) -> Any:
        """The reply, or the error, inside the answer to the Open Inference Protocol's call."""
        answer = self.answer(image=image, outputs=b"reply", **options)
        assert (answer.id, answer.model_name) == ("42", "shapes")
        (output,) = answer.outputs
        assert output.name in ("reply", "error")
        assert (output.datatype, list(output.shape)) == ("BYTES", [1])
        return json.loads(output.contents.bytes_contents[0])

    def _of_protocol(self, name: str) -> Any:
        return self._message(self._opened, f"{_OPEN}.{name}")

    def _call(self, name: str, request: Any, package: str = _OPEN) -> Any:
        call = self._channel.unary_unary(
            f"/{package}.GRPCInferenceService/{name}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=self._of_protocol(f"{name}Response").FromString,
        )
        return call(request, **self._options)
