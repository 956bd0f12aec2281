"""Finds the names of a model's classes: given by the user, or where training left them.

Answers name their classes, and a config does not. A wrong name is worse than none: the training
sets come before the test sets, which many a config still has from the model zoo, and sources that
disagree are said.
"""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Sequence

from d2serve.export.errors import ConfigError
from d2serve.export.reading.config import ModelConfig
from d2serve.export.reading.names.given import INSTANCES, LABELS, Names, names_given
from d2serve.export.reading.names.sources import STUFF, THINGS, FoundNames, is_built_in, of_dataset


def find_names(
    config: ModelConfig,
    num_classes: int | None,
    num_labels: int | None,
    class_names: Sequence[str] | None,
    stuff_class_names: Sequence[str] | None,
    in_checkpoint: FoundNames | None = None,
) -> Names:
    """The names that are given, otherwise those of the data sets, otherwise the checkpoint's.

    Args:
        config: names the data sets.
        num_classes: of instances; None where the model has none.
        num_labels: of sem_seg; None where the model has none.
        class_names, stuff_class_names: given by the user; where there are labels only, either.
        in_checkpoint: what the weights file has of them.

    Raises:
        ConfigError: a name is empty or given twice, or names are not as many as the model's
            classes, or it has none to name, or two sources disagree.
    """
    if num_classes is None and num_labels is not None and stuff_class_names is None:
        class_names, stuff_class_names = None, class_names  # the only names there are
    notes: list[str] = []
    things = _names("--class-names", THINGS, config, num_classes, class_names, in_checkpoint, notes)
    # Where there are labels only, they are the classes.
    labels = None if num_classes is not None else in_checkpoint
    stuff = _names(
        "--stuff-class-names", STUFF, config, num_labels, stuff_class_names, labels, notes
    )
    return Names(
        None if things is None else things.names,
        None if stuff is None else stuff.names,
        None if things is None else things.source,
        None if stuff is None else stuff.source,
        tuple(notes),
    )


def _names(
    option: str,
    key: str,
    config: ModelConfig,
    count: int | None,
    given: Sequence[str] | None,
    in_checkpoint: FoundNames | None,
    notes: list[str],
) -> FoundNames | None:
    if given is not None or count is None:
        names = names_given(option, given, count, INSTANCES if key == THINGS else LABELS)
        return None if names is None else FoundNames(names, option)
    training = [found for name in config.train_datasets for found in of_dataset(name, key)]
    test = [found for name in config.test_datasets for found in of_dataset(name, key)]
    checkpoint = [] if in_checkpoint is None else [in_checkpoint]
    return _chosen(option, config, count, training, test, checkpoint, notes)


def _chosen(
    option: str,
    config: ModelConfig,
    count: int,
    training: list[FoundNames],
    test: list[FoundNames],
    checkpoint: list[FoundNames],
    notes: list[str],
) -> FoundNames | None:
    misfits = [found for found in (*training, *test, *checkpoint) if len(found.names) != count]
    of_training = [each for each in misfits if each in training]
    training, test, checkpoint = (
        [found for found in each if len(found.names) == count]
        for each in (training, test, checkpoint)
    )
    unknown = [name for name in config.train_datasets if not is_built_in(name)]
    if unknown and not training:
        # A test set of detectron2's own beside training sets of the user's own is a leftover of
        # the config that theirs is based on.
        leftover = [each for each in test if is_built_in(each.source.rpartition(" ")[2])]
        test = [each for each in test if each not in leftover]
        notes.extend(
            f"{_capital(each.source)} has {count} names ({_shown(each.names)}), but the model was "
            f"trained on {', '.join(unknown)}, of which no names that fit are known here: they are "
            f"not taken. Name the module that registers it (--import), or the classes ({option})."
            for each in leftover
        )
    _require_agreement(option, [*(training or test), *checkpoint])
    notes.extend(
        f"{_capital(training[0].source)} names the classes {_shown(training[0].names)}, "
        f"{each.source} {_shown(each.names)}. Those of the training set are taken, since the model "
        f"learned them; {option} gives others."
        for each in (test if training else ())
        if each.names != training[0].names
    )
    chosen = next(iter([*training, *test, *checkpoint]), None)
    notes.extend(
        f"{_capital(each.source)} names {len(each.names)} classes ({_shown(each.names)}), the "
        f"model has {count}: they are not taken."
        for each in (misfits if chosen is None else of_training)
    )
    return chosen


def _require_agreement(option: str, found: Sequence[FoundNames]) -> None:
    for each in found[1:]:
        if each.names != found[0].names:
            choices = " or ".join(
                f"{option} {_as_option(names)}" for names in (found[0].names, each.names)
            )
            raise ConfigError(
                f"The names of the classes are not the same in {found[0].source} "
                f"({_shown(found[0].names)}) and in {each.source} ({_shown(each.names)}). Say "
                f"which the model was trained with, in that order: {choices}"
            )


def _as_option(names: Sequence[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(names)
    return shlex.quote(text.getvalue())


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:] if text.startswith("the ") else text
