"""Makes the semantic labels of a data set fit to judge a model by.

SemSegEvaluator counts pixels in a table of the data set's classes. A model of another number of
them ends it in a ValueError, and one of another order in a score of nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog

from d2serve.export.annotations.expectations import Expectations
from d2serve.export.errors import EvaluationError

_IGNORED = 255  # as detectron2's own data sets have it


def registered_labels(
    ours: str,
    dataset: str,
    records: Sequence[Mapping[str, Any]],
    expected: Expectations,
) -> tuple[str, tuple[str, ...]]:
    """Register the labels of a data set under a name of our own, for SemSegEvaluator.

    Args:
        ours: the name.
        dataset: the registered data set.
        records: with ``file_name`` and ``sem_seg_file_name``.
        expected: what the model answers.

    Returns:
        The name, and what does not fit, in sentences.

    Raises:
        EvaluationError: its labels are not there, or not the model's.
    """
    missing = [each for each in records if not Path(each["sem_seg_file_name"]).is_file()]
    if missing:
        raise EvaluationError(
            f"{len(missing)} of the {len(records)} label files of {dataset} are not there (first: "
            f"{missing[0]['sem_seg_file_name']})."
        )
    metadata = MetadataCatalog.get(dataset)
    names = tuple(map(str, metadata.get("stuff_classes") or expected.stuff_class_names or ()))
    if not names:
        raise EvaluationError(
            f"The labels of {dataset} have no names, so nothing says how many there are: set them "
            f'where it is registered, MetadataCatalog.get("{dataset}").set(stuff_classes=[...]).'
        )
    if expected.num_labels not in (None, len(names)):
        raise EvaluationError(
            f"{dataset} has {len(names)} labels ({', '.join(names[:8])}), the model tells "
            f"{expected.num_labels} apart: give the data set of its training."
        )
    own = expected.stuff_class_names
    notes: tuple[str, ...] = ()
    if own is not None and own != names:
        shown = f"{', '.join(names[:8])} in {dataset}, {', '.join(own[:8])} in the model"
        if sorted(own) == sorted(names):
            raise EvaluationError(
                f"The labels are not in the same order: {shown}. Every score would be that of "
                "another class: give the data set of its training."
            )
        notes = (f"The labels have other names: {shown}. They are compared in this order.",)
    DatasetCatalog.pop(ours, None)
    MetadataCatalog.pop(ours, None)
    DatasetCatalog.register(ours, lambda: [dict(each) for each in records])
    more = metadata.get("stuff_dataset_id_to_contiguous_id")
    MetadataCatalog.get(ours).set(
        stuff_classes=list(names),
        ignore_label=metadata.get("ignore_label", _IGNORED),
        **({} if more is None else {"stuff_dataset_id_to_contiguous_id": more}),
    )
    return ours, notes
