"""Names what an export read, so that whoever has an archive finds its weights and config again.

Also says it when the weights are probably not those that the user means: the config that a trainer
writes names the weights that training started from, and what was trained lies beside it.
"""

from __future__ import annotations

import hashlib
import shlex
from pathlib import Path

from d2serve.export.reading.class_names import Names
from d2serve.export.reading.config import ConfigSource, ModelConfig
from d2serve.handlers.digests import sha256_of
from d2serve.handlers.spec.provenance import Provenance


def provenance_of(
    source: ConfigSource, config: ModelConfig, weights: Path, names: Names
) -> Provenance:
    """What an export read.

    Args:
        source: what the user named.
        config: what came of it.
        weights: the file that was loaded, fetched where the config names an address.
        names: of the classes.
    """
    named = Path(source.config_file)
    return Provenance(
        config=named.name if named.is_file() else source.config_file,
        config_sha256=hashlib.sha256(config.resolved.encode()).hexdigest(),
        weights=weights.name,
        weights_sha256=sha256_of(weights),
        class_names=names.classes_from,
        stuff_class_names=names.stuff_from,
    )


# As detectron2's and fvcore's checkpointers write them; the first names the newest of the others.
_LAST, _TRAINED = "last_checkpoint", "model_final.pth"


def weights_beside(source: ConfigSource, config: ModelConfig) -> str | None:
    """What to say where the config's own weights are read and trained ones lie beside the config.

    Args:
        source: what the user named.
        config: what came of it.
    """
    folder = Path(source.config_file).parent
    key = "MODEL.WEIGHTS " if config.cfg is not None else "train.init_checkpoint="
    by_user = any(word.strip() == key.strip() or word.startswith(key) for word in source.overrides)
    if by_user or not Path(source.config_file).is_file():
        return None
    try:
        trained = folder / (folder / _LAST).read_text().strip()
    except (OSError, ValueError):
        trained = folder / _TRAINED
    if not trained.is_file() or (config.weights and trained.resolve() == _path(config.weights)):
        return None
    own = f"are the config's own, {config.weights}" if config.weights else "are not named"
    return (
        f"The weights {own}. {trained.name}, which training wrote, lies beside "
        f"{Path(source.config_file).name}: if you mean that, add {key}{shlex.quote(str(trained))}"
    )


def _path(weights: str) -> Path | None:
    return None if "://" in weights else Path(weights).resolve()
