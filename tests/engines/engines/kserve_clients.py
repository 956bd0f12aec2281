"""KServe's and Triton's own clients ask a server: run as a process of its own, since both bring the
protocol's messages, which Python takes once.

    python kserve_clients.py WHO WAY REST_ADDRESS GRPC_ADDRESS MODEL IMAGE...

writes a line of JSON for each image: its name, the output ``reply``, and the other tensors.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any, Callable

import numpy as np

WHO, WAY, REST, GRPC, MODEL, *IMAGES = sys.argv[1:]
NAMES = ["image_size", "boxes", "scores", "classes", "class_names", "masks", "reply"]
AT_ONCE = 4


def of_text(jpeg: bytes) -> Any:
    return np.array([base64.b64encode(jpeg).decode()], np.object_)


def of_bytes(jpeg: bytes) -> Any:
    return np.array([jpeg], np.object_)


def shown(arrays: dict[str, Any], id: str) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        return value.decode() if isinstance(value, bytes) else value

    return {"id": id} | {
        name: [plain(each) for each in np.asarray(array).ravel().tolist()]
        for name, array in arrays.items()
    }


async def asked_by_kserve(jpeg: bytes, id: str) -> dict[str, Any]:
    from kserve import InferInput, InferRequest

    in_binary = WAY in ("rest-binary", "grpc-raw")
    image = InferInput("image", [1], "BYTES")
    if WAY == "grpc-contents":
        image = InferInput("image", [1], "BYTES", [jpeg])
    else:
        image.set_data_from_numpy(
            of_bytes(jpeg) if in_binary else of_text(jpeg), binary_data=in_binary
        )
    options: dict[str, Any] = {"binary_data_output": True} if WAY == "rest-binary" else {}
    wanted = [{"name": name} for name in NAMES]
    request = InferRequest(
        MODEL, [image], request_id=id, parameters=options, request_outputs=named(wanted)
    )
    if WAY.startswith("rest"):
        answer = await kserve_rest().infer(REST, request, MODEL)
    else:
        answer = await kserve_grpc().infer(request)
    return shown({each.name: each.as_numpy() for each in answer.outputs}, answer.id)


def named(wanted: list[dict[str, str]]) -> Any:
    from kserve.protocol.infer_type import RequestedOutput

    return [RequestedOutput(each["name"]) for each in wanted]


_CLIENTS: dict[str, Any] = {}


def kserve_rest() -> Any:
    from kserve import InferenceRESTClient, RESTConfig

    return _CLIENTS.setdefault("rest", InferenceRESTClient(RESTConfig(protocol="v2")))


def kserve_grpc() -> Any:
    from kserve import InferenceGRPCClient

    if "grpc" not in _CLIENTS:
        _CLIENTS["grpc"] = InferenceGRPCClient(GRPC)
    return _CLIENTS["grpc"]


def of_triton(module: Any, jpeg: bytes) -> tuple[list[Any], list[Any]]:
    image = module.InferInput("image", [1], "BYTES")
    image.set_data_from_numpy(of_bytes(jpeg))
    return [image], [module.InferRequestedOutput(name) for name in NAMES]


async def asked_by_triton(jpeg: bytes, id: str) -> dict[str, Any]:
    if WAY == "http":
        import tritonclient.http as module

        client = _CLIENTS.setdefault("it", module.InferenceServerClient(address(REST)))
        given = of_triton(module, jpeg)
        answer = client.infer(MODEL, given[0], outputs=given[1], request_id=id)
    elif WAY == "http-aio":
        import tritonclient.http.aio as module

        client = _CLIENTS.setdefault("it", module.InferenceServerClient(address(REST)))
        given = of_triton(module, jpeg)
        answer = await client.infer(
            MODEL, given[0], outputs=given[1], request_id=id, request_compression_algorithm="gzip"
        )
    elif WAY == "grpc":
        import tritonclient.grpc as module

        client = _CLIENTS.setdefault("it", module.InferenceServerClient(GRPC))
        given = of_triton(module, jpeg)
        answer = client.infer(
            MODEL, given[0], outputs=given[1], request_id=id, compression_algorithm="gzip"
        )
    else:
        import tritonclient.grpc.aio as module

        client = _CLIENTS.setdefault("it", module.InferenceServerClient(GRPC))
        given = of_triton(module, jpeg)
        answer = await client.infer(MODEL, given[0], outputs=given[1], request_id=id)
    said = answer.get_response()
    said_id = said["id"] if isinstance(said, dict) else said.id
    return shown({name: answer.as_numpy(name) for name in NAMES}, said_id)


def address(rest: str) -> str:
    return rest.removeprefix("http://")


ASK: dict[str, Callable[[bytes, str], Awaitable[dict[str, Any]]]] = {
    "kserve": asked_by_kserve,
    "triton": asked_by_triton,
}


async def main() -> None:
    left = iter(IMAGES)

    async def some(images: Iterator[str]) -> None:
        for image in images:
            path = Path(image)
            answer = await ASK[WHO](path.read_bytes(), path.name)
            sys.stdout.write(json.dumps([path.name, answer]) + "\n")

    await asyncio.gather(*(some(left) for _ in range(AT_ONCE)))
    for client in _CLIENTS.values():
        closed = client.close()
        if closed is not None:
            await closed


if __name__ == "__main__":
    asyncio.run(main())
