"""Names what an export read, so that whoever has an archive finds its weights and config again."""

from __future__ import annotations

import hashlib
from pathlib import Path

from d2serve.export.reading.config import ConfigSource, ModelConfig
from d2serve.export.reading.names.given import Names
from d2serve.export.reading.weights import LoadedWeights
from d2serve.handlers.digests import sha256_of
from d2serve.handlers.spec.provenance import Provenance


def provenance_of(
    source: ConfigSource, config: ModelConfig, weights: LoadedWeights, names: Names
) -> Provenance:
    """What an export read.

    Args:
        source: what the user named.
        config: what came of it.
        weights: what was loaded.
        names: of the classes.
    """
    named = Path(source.config_file)
    file = weights.file.name.partition("?")[0]  # of an address such as Dropbox's
    return Provenance(
        config=named.name if named.is_file() else source.config_file,
        config_sha256=hashlib.sha256(config.resolved.encode()).hexdigest(),
        weights=f"{file} ({weights.key})" if weights.key else file,
        weights_sha256=sha256_of(weights.file),
        class_names=names.classes_from,
        stuff_class_names=names.stuff_from,
    )
