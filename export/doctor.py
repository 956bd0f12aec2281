"""Says what each way of export will do with a model, before anybody waits for one.

Nothing is exported. What detectron2 and d2serve bring is known by type. Modules of the user's own
are tried, one by one, on random weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from detectron2.export import scripting_with_instances
from torch import nn

from d2serve.export.errors import UnsupportedFamily
from d2serve.export.failures import imported, in_a_sentence, in_short
from d2serve.export.programs.carrying import why_not_scripted
from d2serve.export.programs.doubting.doubts import Doubt
from d2serve.export.programs.noise import with_what_it_answers
from d2serve.export.programs.scripting import FIELDS, types_of
from d2serve.export.programs.torchscript_errors import where_in_script
from d2serve.export.programs.trial import Tried, trial_image, try_tracing
from d2serve.export.programs.unexportable import labels_of, why_unexportable
from d2serve.export.reading.config import ConfigSource, ModelConfig
from d2serve.export.reading.config_loading import load_config
from d2serve.export.reading.families import Family, family_of
from d2serve.export.reading.image_form import image_form_of
from d2serve.export.reading.installation import compiled_operators_problem
from d2serve.export.reading.names.forecast import names_foretold
from d2serve.export.reading.own_models.answers import observed
from d2serve.export.reading.weights import build_model
from d2serve.export.rewrites.registry import REWRITES, exportable
from d2serve.export.rewrites.rewrite import Rewrite
from d2serve.handlers.spec.output_names import SEM_SEG
from d2serve.handlers.spec.runtimes import (
    ONNX,
    RUNTIMES,
    SCRIPTING,
    TRACED_FORMATS,
    TRACING,
    RuntimeFacts,
)

_KNOWN = ("detectron2", "d2serve", "torch", "torchvision", "fvcore")
# Classes of another package that detectron2's own backbones are made of.
_KNOWN_CLASSES = tuple(
    f"timm.{package}.{name}"
    for package in ("layers", "models.layers")
    for name in ("drop.DropPath", "mlp.Mlp")
)


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
    doubts: tuple[Doubt, ...] = ()
    """Places where a trace makes constants of what depends on the image."""

    @property
    def verdict(self) -> str:
        """In a few words."""
        if self.refusal is not None:
            return "cannot"
        if self.doubts:
            return "exports with doubts"
        return "exports with rewrites" if self.rewrites else "exports"


@dataclass(frozen=True)
class Diagnosis:
    """What a model is, and what each way of export will do with it."""

    family: Family
    config: ModelConfig
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    """What is not about the model, but would stop an export all the same."""


@in_a_sentence
def examine(source: ConfigSource) -> Diagnosis:
    """Look at a config's model without exporting it or reading its weights.

    Raises:
        ExportError: the config cannot be read or built, or the family is refused altogether.
    """
    config = load_config(source)
    model = build_model(config)
    channels = image_form_of(model, config).channels
    family = observed(family_of(model), model, trial_image(channels))
    family = with_what_it_answers(model, family, channels, config.device, list(_foreign(model)))
    tried: dict[str, Tried] = {}
    findings = [
        _finding(model, family, channels, method, facts, tried)
        for facts in RUNTIMES.values()
        for method in facts.methods
    ]
    return Diagnosis(family, config, tuple(findings), tuple(_notes(config, family, model)))


def _finding(
    model: nn.Module,
    family: Family,
    channels: int,
    method: str,
    runtime: RuntimeFacts,
    tried: dict[str, Tried],
) -> Finding:
    way = runtime.way(method)
    lost = why_not_scripted(model, family, method)
    if lost is not None:
        return Finding(method, runtime.format, runtime.name, (), lost)
    try:
        changed, names = exportable(model, way, family.postprocessed, family.own_forward)
    except UnsupportedFamily as error:
        return Finding(method, runtime.format, runtime.name, (), str(error))
    rewrites = tuple(rewrite for rewrite in REWRITES if rewrite.name in names)
    refusal = why_unexportable(model, runtime, method, family) or _not_installed(runtime, method)
    # Of a graph of torch operators, a trace says what it would stumble over.
    trial = TRACING if way in TRACED_FORMATS and way != ONNX else way
    if refusal is None and trial not in tried:
        tried[trial] = _own_modules(model, changed, family, channels, trial)
    known = tried.get(trial, Tried(None)) if refusal is None else Tried(refusal)
    return Finding(
        method,
        runtime.format,
        runtime.name,
        rewrites if known.refusal is None else (),
        known.refusal,
        known.doubts if known.refusal is None else (),
    )


def _own_modules(
    model: nn.Module, changed: nn.Module, family: Family, channels: int, way: str
) -> Tried:
    own = list(_foreign(model))
    if not own:
        return Tried(None)
    if way == SCRIPTING:
        paths = [""] if family.is_own else own
        return Tried(next(filter(None, (_scripted(changed, path, family) for path in paths)), None))
    return try_tracing(changed, family, channels, way, own)


def _foreign(model: nn.Module) -> Iterator[str]:
    """Paths of the outermost modules that are neither detectron2's nor torch's."""
    inside: tuple[str, ...] = ()
    for path, module in model.named_modules():
        if inside and path.startswith(inside):
            continue
        kind = type(module)
        if f"{kind.__module__}.{kind.__qualname__}" in _KNOWN_CLASSES:
            continue
        if kind.__module__.split(".")[0] not in _KNOWN:
            inside = (*inside, f"{path}." if path else "")
            yield path


def _scripted(model: nn.Module, path: str, family: Family) -> str | None:
    module = model.get_submodule(path)
    try:
        scripting_with_instances(module, {**FIELDS, **types_of(family.extras)})
    except Exception as error:  # TorchScript raises several kinds, and AttributeError among them
        return (
            f"{path or 'The model'} ({type(module).__qualname__}) {where_in_script(error)}"
            f"{in_short(error)}. Annotate the types of its arguments and use what TorchScript "
            "knows, or use --export-method tracing."
        )
    return None


def _not_installed(runtime: RuntimeFacts, method: str) -> str | None:
    for package in (runtime.package, *runtime.made_with(method)):
        try:
            imported(package)
        except ImportError as error:
            extra = runtime.export_extra
            return f"{package} is not installed ({error}): pip install 'd2serve[{extra}]'"
    return None


def _notes(config: ModelConfig, family: Family, model: nn.Module) -> Iterator[str]:
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
    labels = labels_of(model) if SEM_SEG in family.outputs else None
    yield from names_foretold(config, family.num_classes, labels)
