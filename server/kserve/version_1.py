"""KServe's first protocol, which is TensorFlow Serving's: instances in, predictions out.

An instance is an image file in base64, with options beside it: ``{"image": {"b64": "…"},
"score_thresh": 0.5}``. Each is a request of its own, and its prediction is the reply that any other
request gets. The protocol has one status for all: where one fails, that is the answer.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from typing import Any

import orjson

from d2serve.handlers.errors import EmptyRequest, InvalidOption
from d2serve.handlers.replies.reply import JSON, OK, Reply
from d2serve.handlers.requests.bodies.content_encoding import encoding_of, unpacked
from d2serve.handlers.requests.bodies.json_text import check_names, parsed
from d2serve.handlers.requests.request import HTTP, PREDICT, Request
from d2serve.handlers.spec.limits import DEFAULT_LIMITS
from d2serve.server.asgi.heads import Head
from d2serve.server.asgi.models import Ask
from d2serve.server.asgi.refusals import Refused

_IMAGES = ("image", "image_bytes", "data", "b64")
"""Names under which clients of other models send the file."""
_MOST = 64
_ABOUT_THE_BODY = ("content-encoding", "content-type", "content-length")
_FORM = '{"instances": [{"image": {"b64": "..."}}]}'


def read_instances(body: bytes, head: Head) -> list[Request]:
    """The requests in a body.

    Raises:
        RequestError: it is no call of this protocol.
    """
    encoding = encoding_of(head.headers)
    body = unpacked(body, encoding, DEFAULT_LIMITS) if encoding else body
    call, _ = parsed(body, {"content-type": JSON})
    if not isinstance(call, Mapping) or not isinstance(call.get("instances"), list):
        raise EmptyRequest(f"Got no JSON object with a list of instances, expected {_FORM}.")
    check_names(call, body, {})
    others = [name for name in call if name not in ("instances", "signature_name")]
    if others:
        raise InvalidOption(
            f"Got {others[0][:40]!a} beside the instances, expected options in each instance, "
            "beside its image."
        )
    instances = call["instances"]
    if not 1 <= len(instances) <= _MOST:
        raise EmptyRequest(f"Got {len(instances)} instances, expected 1 to {_MOST}.")
    headers = {name: each for name, each in head.headers.items() if name not in _ABOUT_THE_BODY}
    ids = [head.request_id, *(f"{head.request_id}-{i}" for i in range(1, len(instances)))]
    return [
        Request(_read(each), head.options(), headers, PREDICT, HTTP, id)
        for each, id in zip(instances, ids)
    ]


async def predictions(ask: Ask, requests: list[Request]) -> bytes:
    """The answer to a call.

    Raises:
        Refused: one of its instances has none.
    """
    replies = await asyncio.gather(*map(ask, requests))
    for i, reply in enumerate(replies):
        if reply.code != OK:
            where = f" (instance {i + 1} of {len(replies)})" if len(replies) > 1 else ""
            raise Refused(reply.status, reply.code, f"{reply.message}{where}")
    return b'{"predictions":[' + b",".join(map(_as_json, replies)) + b"]}"


def _read(instance: Any) -> dict[str, Any]:
    """An instance as our own JSON has it; what is wrong with it is found there."""
    if not isinstance(instance, Mapping):
        return {"image": instance}
    named = [name for name in _IMAGES if name in instance]
    if len(named) != 1:
        raise EmptyRequest(
            f"Got an instance with {len(named)} images, expected one, under one of the names "
            f"{', '.join(_IMAGES)}: {_FORM}."
        )
    image = instance[named[0]]
    if isinstance(image, Mapping) and set(image) == {"b64"}:
        image = image["b64"]
    return {**{name: each for name, each in instance.items() if name != named[0]}, "image": image}


def _as_json(reply: Reply) -> bytes:
    if reply.content_type == JSON:
        return reply.body
    picture = base64.b64encode(reply.body).decode("ascii")
    return orjson.dumps({"content_type": reply.content_type, "b64": picture})
