"""What the custom resources of KServe and KubeRay have, as far as the templates use it.

Written by hand from their definitions of August 2026; whatever is not named here is refused.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]


def one(**properties: Any) -> Schema:
    """An object with these properties and no other, all of them there."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def many(item: Schema) -> Schema:
    return {"type": "array", "items": item, "minItems": 1}


TEXT: Schema = {"type": "string", "minLength": 1}
NUMBER: Schema = {"type": "integer"}
NAME: Schema = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"}
ANYTHING: Schema = {"type": "object"}  # a part of a pod, which kubernetes-validate looks at

_RAY_GROUP = {"rayStartParams": {"type": "object", "additionalProperties": TEXT}}
SCHEMAS: dict[str, Schema] = {
    "serving.kserve.io/v1alpha1 ServingRuntime": one(
        supportedModelFormats=many(one(name=TEXT, version=TEXT, autoSelect={"type": "boolean"})),
        protocolVersions=many({"enum": ["v1", "v2", "grpc-v1", "grpc-v2"]}),
        containers=many(ANYTHING),
        volumes=many(ANYTHING),
    ),
    "serving.kserve.io/v1beta1 InferenceService": one(
        predictor=one(
            minReplicas=NUMBER,
            maxReplicas=NUMBER,
            terminationGracePeriodSeconds=NUMBER,
            model=one(modelFormat=one(name=TEXT, version=TEXT), runtime=NAME, storageUri=TEXT),
        )
    ),
    "ray.io/v1 RayService": one(
        serveConfigV2=TEXT,
        rayClusterConfig=one(
            rayVersion=TEXT,
            headGroupSpec=one(template=ANYTHING, **_RAY_GROUP),
            workerGroupSpecs=many(
                one(
                    groupName=NAME,
                    replicas=NUMBER,
                    minReplicas=NUMBER,
                    maxReplicas=NUMBER,
                    template=ANYTHING,
                    **_RAY_GROUP,
                )
            ),
        ),
    ),
}
"""The schema of ``spec`` by apiVersion and kind."""
