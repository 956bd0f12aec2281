"""An archive of an older schema is read as what it was."""

from __future__ import annotations

import json
from typing import Any

from d2serve.handlers.spec.model_spec import ModelSpec
from d2serve.handlers.spec.provenance import Provenance
from tests.handlers.samples import spec_with

MADE_OF = Provenance("a.yaml", "0" * 64, "a.pth", "1" * 64)


def test_an_archive_of_schema_3_does_not_say_where_its_names_come_from() -> None:
    spec = spec_with(provenance=MADE_OF, schema_version=3)
    raw: dict[str, Any] = json.loads(spec.to_json())
    for key in ("class_names", "stuff_class_names"):
        del raw["provenance"][key]
    assert ModelSpec.from_json(json.dumps(raw)) == spec
