"""Says what each way of export will do with a model, before anybody waits for one.

Nothing is exported. What detectron2 and d2serve bring is known by type. Modules of the user's own
are tried, one by one, on random weights.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Union

import torch
from detectron2.export import scripting_with_instances
from torch import nn

from d2serve.export.errors import ExportError, UnsupportedFamily, one_line
from d2serve.export.programs.scripting import FIELDS
from d2serve.export.programs.torchscript_errors import where_in_script
from d2serve.export.programs.tracing import program_inputs, trace
from d2serve.export.programs.unexportable import why_unexportable
from d2serve.export.reading.config import ConfigSource, ModelConfig
from d2serve.export.reading.config_loading import load_config
from d2serve.export.reading.families import Family, family_of
from d2serve.export.reading.image_form import image_form_of
from d2serve.export.reading.installation import compiled_operators_problem
from d2serve.export.reading.own_models.answers import observed
from d2serve.export.reading.weights import build_model
from d2serve.export.rewrites.registry import REWRITES, exportable
from d2serve.export.rewrites.rewrite import Rewrite
from d2serve.handlers.spec.runtimes import RUNTIMES, SCRIPTING, RuntimeFacts

_KNOWN = ("detectron2", "d2serve", "torch", "torchvision", "fvcore")
# (H, W) of the image on which a user's own modules are traced.
_TRIAL = (128, 160)

Trial = Mapping[str, Union[torch.Tensor, int]]
"""The dict of that image, as a model gets it."""


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
    form = image_form_of(model, config)
    image = torch.rand(form.channels, *_TRIAL) * 255
    trial: Trial = {"image": image, "height": 160, "width": 200}
    family = observed(family_of(model), model, trial)
    findings = [
        _finding(model, family, method, facts, trial)
        for facts in RUNTIMES.values()
        for method in facts.methods
    ]
    return Diagnosis(family, config, tuple(findings), tuple(_notes(config)))


def _finding(
    model: nn.Module, family: Family, method: str, runtime: RuntimeFacts, trial: Trial
) -> Finding:
    way = runtime.way(method)
    try:
        changed, names = exportable(model, way, family.postprocessed)
    except UnsupportedFamily as error:
        return Finding(method, runtime.format, runtime.name, (), str(error))
    rewrites = tuple(rewrite for rewrite in REWRITES if rewrite.name in names)
    refusal = (
        why_unexportable(model, runtime, method)
        or _own_modules(model, changed, family, way, trial)
        or _not_installed(runtime)
    )
    made_with = rewrites if refusal is None else ()
    return Finding(method, runtime.format, runtime.name, made_with, refusal)


def _own_modules(
    model: nn.Module, changed: nn.Module, family: Family, way: str, trial: Trial
) -> str | None:
    own = list(_foreign(model))
    if not own:
        return None
    if way == SCRIPTING:
        paths = [""] if family.is_own else own
        return next(filter(None, (_scripted(changed, path) for path in paths)), None)
    try:
        made = trace(changed, family.outputs, program_inputs(trial, family.postprocessed))
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


def _notes(config: ModelConfig) -> Iterator[str]:
    yield from config.notes
    problem = compiled_operators_problem()
    if problem is not None:
        yield problem
    if not config.weights:
        yield (
            "The config names no weights; give them to the export: "
            + ("MODEL.WEIGHTS " if config.cfg is not None else "train.init_checkpoint=")
            + "model_final.pth"
        )
    if not config.test_datasets:
        yield "The config names no test data set: class names must be given with --class-names."
