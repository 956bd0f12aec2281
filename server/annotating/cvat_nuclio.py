"""What CVAT's serverless functions (nuclio) want to know of a model: labels, and how to build it.

The function itself is a template of the packaging floor, and runs with the archive's own library.
"""

from __future__ import annotations

import json
from typing import Any

import orjson

from d2serve.client.errors import ArchiveRefused, InvalidInput
from d2serve.client.own_handling import Handling
from d2serve.handlers.oip.metadata import describe
from d2serve.handlers.spec.model_spec import ModelSpec
from d2serve.server.annotating.asking import About

_PYTHON = "3.11"
_SECONDS = 60
_MOST_BYTES = 64 << 20


def files_of(spec: ModelSpec, name: str, version: str, _handling: Handling) -> dict[str, str]:
    """``function.yaml``, by its name; it is JSON, which is YAML.

    Raises:
        ArchiveRefused: what the model finds has no names, which are CVAT's labels.
    """
    about = About.parse(orjson.loads(describe(spec, name, version)))
    try:
        names = about.require_names()
    except InvalidInput as error:
        raise ArchiveRefused(str(error)) from error
    kind = "mask" if about.has_areas or "masks" in about.outputs else "rectangle"
    labels = [{"id": i, "name": label, "type": kind} for i, label in enumerate(names)]
    return {"function.yaml": json.dumps(_function(name, version, labels), indent=2) + "\n"}


def _function(name: str, version: str, labels: list[dict[str, Any]]) -> dict[str, Any]:
    install = "pip install --no-cache-dir -r /opt/nuclio/requirements.txt"
    plain = "".join(letter if letter.isalnum() else "-" for letter in name.lower()).strip("-")
    return {
        "metadata": {
            "name": plain,
            "namespace": "cvat",
            "annotations": {
                "name": f"{name} {version}",
                "type": "detector",
                "spec": json.dumps(labels),
            },
        },
        "spec": {
            "description": f"{name} {version}, in an archive of d2serve",
            "runtime": f"python:{_PYTHON}",
            "handler": "main:handler",
            "eventTimeout": f"{_SECONDS}s",
            "build": {
                "image": f"cvat.{plain}",
                "baseImage": f"python:{_PYTHON}-slim",
                "directives": {"postCopy": [{"kind": "RUN", "value": install}]},
            },
            "triggers": {
                "http": {
                    "kind": "http",
                    "numWorkers": 1,
                    "workerAvailabilityTimeoutMilliseconds": _SECONDS * 1000,
                    "attributes": {"maxRequestBodySize": _MOST_BYTES},
                }
            },
            "platform": {
                "attributes": {
                    "restartPolicy": {"name": "always", "maximumRetryCount": 3},
                    "mountMode": "volume",
                }
            },
        },
    }
