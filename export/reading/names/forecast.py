"""Says beforehand what the classes will be called, and from where."""

from __future__ import annotations

from collections.abc import Iterator

from d2serve.export.errors import ConfigError
from d2serve.export.reading.config import ModelConfig
from d2serve.export.reading.names.class_names import find_names


def names_foretold(
    config: ModelConfig, num_classes: int | None, num_labels: int | None
) -> Iterator[str]:
    """What an export without names of the user's will call the classes, in sentences.

    Args:
        config: names the data sets.
        num_classes: of instances; None where the model has none.
        num_labels: of sem_seg; None where the model has none, or does not say.
    """
    try:
        names = find_names(config, num_classes, num_labels, None, None)
    except ConfigError as error:
        yield str(error)
        return
    yield from names.notes
    for what, option, count, found, where in (
        ("classes", "--class-names", num_classes, names.classes, names.classes_from),
        ("labels", "--stuff-class-names", num_labels, names.stuff, names.stuff_from),
    ):
        if found is not None:
            yield f"The {what} will be named {', '.join(found)} (from {where})."
        elif count is not None:
            yield (
                f"No data set that is registered here names the {what} ({count}): unless the "
                f"weights file does, they must be given with {option}."
            )
