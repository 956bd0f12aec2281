"""Says what each way of export will do with a model, before anybody waits for one.

Nothing is exported. What detectron2 and d2serve bring is known by type. Modules of the user's own
are tried, one by one, on random weights.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from detectron2.export import scripting_with_instances
from torch import nn

from d2serve.export.archive.provenance import weights_beside
from d2serve.export.errors import ConfigError, ExportError, UnsupportedFamily, one_line
from d2serve.export.programs.scripting import FIELDS
from d2serve.export.programs.torchscript_errors import where_in_script
from d2serve.export.programs.tracing import trace
from d2serve.export.programs.unexportable import labels_of, why_unexportable
from d2serve.export.reading.class_names import find_names
from d2serve.export.reading.config import ConfigSource, ModelConfig
from d2serve.export.reading.config_loading import load_config
from d2serve.export.reading.families import Family, family_of
from d2serve.export.reading.installation import compiled_operators_problem
from d2serve.export.reading.weights import build_model
from d2serve.export.rewrites.registry import REWRITES, exportable
from d2serve.export.rewrites.rewrite import Rewrite
from d2serve.handlers.spec.output_names import SEM_SEG
from d2serve.handlers.spec.runtimes import RUNTIMES, SCRIPTING, RuntimeFacts

_KNOWN = ("detectron2", "d2serve", "torch", "torchvision", "fvcore")
# (3, H, W) of the image on which a user's own modules are traced.
_TRIAL = (3, 128, 160)


@dataclass(frozen=True)
class Finding:
    """What one way of export will do."""

    method: str
    format: str
    runtime: str
    rewrites: tuple[Rewrite, ...]
    """What will be rewritten for it."""
    refusal: str | None
    """Why it cannot be, with module, file and line, and what to do; None where it can."""

    @property
    def verdict(self) -> str:
        """In a few words."""
        if self.refusal is not None:
            return "cannot"
        return "exports with rewrites" if self.rewrites else "exports"


@dataclass(frozen=True)
class Diagnosis:
    """What a model is, and what each way of export will do with it."""

    family: Family
    config: ModelConfig
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    """What is not about the model, but would stop an export all the same."""


def examine(source: ConfigSource) -> Diagnosis:
    """Look at a config's model without exporting it or reading its weights.

    Raises:
        ExportError: the config cannot be read or built, or the family is refused altogether.
    """
    config = load_config(source)
    model = build_model(config)
    family = family_of(model)
    findings = [
        _finding(model, family, method, facts)
        for facts in RUNTIMES.values()
        for method in facts.methods
    ]
    return Diagnosis(family, config, tuple(findings), tuple(_notes(source, config, family, model)))


def _finding(model: nn.Module, family: Family, method: str, runtime: RuntimeFacts) -> Finding:
    way = runtime.way(method)
    try:
        changed, names = exportable(model, way)
    except UnsupportedFamily as error:
        return Finding(method, runtime.format, runtime.name, (), str(error))
    rewrites = tuple(rewrite for rewrite in REWRITES if rewrite.name in names)
    refusal = (
        why_unexportable(model, runtime, method)
        or _own_modules(model, changed, family, way)
        or _not_installed(runtime)
    )
    made_with = rewrites if refusal is None else ()
    return Finding(method, runtime.format, runtime.name, made_with, refusal)


def _own_modules(model: nn.Module, changed: nn.Module, family: Family, way: str) -> str | None:
    own = list(_foreign(model))
    if not own:
        return None
    if way == SCRIPTING:
        return next(filter(None, (_scripted(changed, path) for path in own)), None)
    try:
        made = trace(changed, family.outputs, torch.rand(_TRIAL) * 255)
    except ExportError as error:
        return str(error)
    if made.traced_constants:
        return (
            f"A trace turns Python values into constants at {', '.join(made.traced_constants)}, so "
            "answers would be those of one image. Compute them with torch operators there, or try "
            "--export-method scripting."
        )
    return None


def _foreign(model: nn.Module) -> Iterator[str]:
    """Paths of the outermost modules that are neither detectron2's nor torch's."""
    inside: tuple[str, ...] = ()
    for path, module in model.named_modules():
        if inside and path.startswith(inside):
            continue
        if type(module).__module__.split(".")[0] not in _KNOWN:
            inside = (*inside, f"{path}." if path else "")
            yield path


def _scripted(model: nn.Module, path: str) -> str | None:
    module = model.get_submodule(path)
    try:
        scripting_with_instances(module, FIELDS)
    except Exception as error:  # TorchScript raises several kinds, and AttributeError among them
        return (
            f"{path or 'The model'} ({type(module).__qualname__}) {where_in_script(error)}"
            f"{one_line(error, 200)}. Annotate the types of its arguments and use what TorchScript "
            "knows, or use --export-method tracing."
        )
    return None


def _not_installed(runtime: RuntimeFacts) -> str | None:
    try:
        importlib.import_module(runtime.package)
    except ImportError as error:
        extra = runtime.export_extra
        return f"{runtime.package} is not installed ({error}): pip install 'd2serve[{extra}]'"
    return None


def _notes(
    source: ConfigSource, config: ModelConfig, family: Family, model: nn.Module
) -> Iterator[str]:
    problem = compiled_operators_problem()
    if problem is not None:
        yield problem
    if not config.weights:
        yield (
            "The config names no weights; give them to the export: "
            + ("MODEL.WEIGHTS " if config.cfg is not None else "train.init_checkpoint=")
            + "model_final.pth"
        )
    beside = weights_beside(source, config)
    if beside is not None:
        yield beside
    labels = labels_of(model.sem_seg_head) if SEM_SEG in family.outputs else None
    yield from _notes_of_names(config, family, labels)


def _notes_of_names(config: ModelConfig, family: Family, labels: int | None) -> Iterator[str]:
    try:
        names = find_names(config, family.num_classes, labels, None, None)
    except ConfigError as error:
        yield str(error)
        return
    yield from names.notes
    for what, option, count, found, where in (
        ("classes", "--class-names", family.num_classes, names.classes, names.classes_from),
        ("labels", "--stuff-class-names", labels, names.stuff, names.stuff_from),
    ):
        if found is not None:
            yield f"The {what} will be named {', '.join(found)} (from {where})."
        elif count is not None:
            yield (
                f"No data set here names the {count} {what}: unless the weights file does, they "
                f"must be given with {option}."
            )
