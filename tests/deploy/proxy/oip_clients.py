"""KServe's and Triton's own clients ask the proxy: run by the Python of an environment that has
them (engines.txt), and not imported by any test.

    python oip_clients.py kserve|triton HOST:PORT CA_FILE KEY MODEL IMAGE

prints what each of its clients got, as JSON. One of them at a time: both bring the protocol's
messages, which Python takes once.
"""

from __future__ import annotations

import asyncio
import io
import json
import ssl
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

WHO, ADDRESS, CA, KEY, MODEL, IMAGE = sys.argv[1:]
HEADERS = {"x-api-key": KEY}
PHOTO = Path(IMAGE).read_bytes()
RGB = np.asarray(Image.open(io.BytesIO(PHOTO)).convert("RGB"))


def triton() -> dict[str, Any]:
    return {"gRPC": triton_over_grpc(), "HTTP": triton_over_http()}


def triton_over_grpc() -> dict[str, Any]:
    from tritonclient.grpc import InferenceServerClient, InferInput
    from tritonclient.utils import InferenceServerException

    client = InferenceServerClient(ADDRESS, ssl=True, root_certificates=CA)
    image = InferInput("image", [1], "BYTES")
    # set_data_from_numpy makes raw contents, which TorchServe drops: docs/proxy.md.
    image._get_tensor().contents.bytes_contents.append(PHOTO)
    answer = client.infer(MODEL, [image], request_id="7", headers=HEADERS)
    try:
        client.infer(MODEL, [image], headers={"x-api-key": "no key"})
        refusal = ""
    except InferenceServerException as error:
        refusal = str(error.status())
    unread = InferInput("image", [1], "BYTES")
    unread.set_data_from_numpy(np.array([PHOTO], np.object_))
    raw = client.infer(MODEL, [unread], headers=HEADERS)
    return {
        "live": client.is_server_live(headers=HEADERS),
        "ready": client.is_server_ready(headers=HEADERS),
        "model is ready": client.is_model_ready(MODEL, headers=HEADERS),
        "name": client.get_model_metadata(MODEL, headers=HEADERS).name,
        "id": answer.get_response().id,
        # as_numpy reads raw contents and BYTES.
        "boxes": np.reshape(answer.get_output("boxes").contents.fp32_contents, (-1, 4)).tolist(),
        "refusal": refusal,
        "of raw contents": [each.name for each in raw.get_response().outputs],
    }


def triton_over_http() -> dict[str, Any]:
    from tritonclient.http import InferenceServerClient, InferInput

    client = InferenceServerClient(
        ADDRESS, ssl=True, ssl_context_factory=lambda: ssl.create_default_context(cafile=CA)
    )
    image = InferInput("image", list(RGB.shape), "UINT8")
    image.set_data_from_numpy(RGB)
    answer = client.infer(MODEL, [image], headers=HEADERS)
    return {
        "live": client.is_server_live(headers=HEADERS),
        "ready": client.is_server_ready(headers=HEADERS),
        "boxes": answer.as_numpy("boxes").tolist(),
    }


async def kserve() -> dict[str, Any]:
    from kserve import (
        InferenceGRPCClient,
        InferenceRESTClient,
        InferInput,
        InferRequest,
        RESTConfig,
    )

    image = InferInput("image", list(RGB.shape), "UINT8")
    image.set_data_from_numpy(RGB, binary_data=False)
    request = InferRequest(MODEL, [image])
    metadata = list(HEADERS.items())
    async with InferenceGRPCClient(ADDRESS, use_ssl=True, root_certificates=CA) as client:
        answer = await client.infer(request, headers=metadata)
        over_grpc = {
            "live": await client.is_server_live(headers=metadata),
            "ready": await client.is_server_ready(headers=metadata),
            "model is ready": await client.is_model_ready(MODEL, headers=metadata),
            "boxes": boxes_of(answer),
        }
    trusted = ssl.create_default_context(cafile=CA)
    rest, url = InferenceRESTClient(RESTConfig(protocol="v2", verify=trusted)), f"https://{ADDRESS}"
    answer = await rest.infer(url, request, MODEL, headers=HEADERS)
    over_http = {
        "live": await rest.is_server_live(url, headers=HEADERS),
        "ready": await rest.is_server_ready(url, headers=HEADERS),
        "boxes": boxes_of(answer),
    }
    return {"gRPC": over_grpc, "HTTP": over_http}


def boxes_of(answer: Any) -> Any:
    return {each.name: each for each in answer.outputs}["boxes"].as_numpy().tolist()


if __name__ == "__main__":
    got = triton() if WHO == "triton" else asyncio.run(kserve())
    sys.stdout.write(json.dumps(got))
