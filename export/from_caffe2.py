"""The way from Caffe2's files, which somebody has for years, to a verified archive.

Neither Caffe2 nor detectron2 is needed. The files are served as they are: what they answer is
compared with ``Caffe2Model``, and, where their config and weights are there, with eager detectron2
as well, whose difference is told.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from d2serve.export.archive.describing import spec_for
from d2serve.export.archive.installing import install
from d2serve.export.archive.staging import settings_for, staging
from d2serve.export.errors import ConfigError, SampleError
from d2serve.export.failures import in_a_sentence
from d2serve.export.naming import DEFAULT_VERSION, require_place, require_writable
from d2serve.export.picture.condensing import network_of
from d2serve.export.picture.readers.from_caffe2 import from_caffe2
from d2serve.export.picture.svg import svg_of
from d2serve.export.programs.program import Program
from d2serve.export.proof.caffe2_reference import Caffe2Reference
from d2serve.export.proof.cases import plan_cases
from d2serve.export.proof.reference import count_of
from d2serve.export.proof.reopening import reopen
from d2serve.export.proof.verification import measured, verify
from d2serve.export.reading.caffe2_files import Caffe2Files, read_caffe2_files
from d2serve.export.reading.config import ConfigSource
from d2serve.export.reading.names.given import INSTANCES, LABELS, Names, names_given
from d2serve.export.reading.samples import load_sample, most_sample_pixels
from d2serve.export.request import Progress, check_address, check_choice
from d2serve.export.result import ExportResult
from d2serve.handlers.caffe2 import Caffe2Model
from d2serve.handlers.digests import sha256_of
from d2serve.handlers.spec.image_form import BANDS, BGR, FORMATS, GREY, RGB, RGBA, ImageForm
from d2serve.handlers.spec.provenance import Provenance
from d2serve.handlers.spec.runtimes import CAFFE2, RUNTIMES, TRACING
from d2serve.handlers.spec.sixteen_bit import OPENCV, SIXTEEN_BIT_WAYS

if TYPE_CHECKING:  # brings detectron2
    from d2serve.export.proof.beside_eager import Beside

FORMAT = RUNTIMES[CAFFE2].format
"""Of the files."""
EAGER = "beside_eager"
"""Key of the verification's record: what eager detectron2 answered, where it was asked."""


@dataclass(frozen=True)
class Caffe2Request:
    """What a user asks for; the fields are the command's options."""

    folder: Path
    name: str
    version: str = DEFAULT_VERSION
    source: ConfigSource | None = None
    """The config that the files were made of; otherwise the next three are needed."""
    min_size_test: int | None = None
    max_size_test: int | None = None
    image_format: str | None = None
    class_names: Sequence[str] | None = None
    stuff_class_names: Sequence[str] | None = None
    sample_image: Path | None = None
    sixteen_bit: str = OPENCV
    output: Path = Path("model_store")


@dataclass(frozen=True)
class _Preparation:
    """What the files do not say."""

    min_size: int
    max_size: int
    form: ImageForm
    names: Names


@in_a_sentence
def export_files(request: Caffe2Request, progress: Progress) -> ExportResult:
    """Verify and package Caffe2's files. Nothing is written unless everything holds.

    Raises:
        ExportError: the message says what was wrong and what to do.
    """
    check_address(request.name, request.version)
    check_choice("--sixteen-bit", request.sixteen_bit, SIXTEEN_BIT_WAYS)
    require_place(request.output, request.name, request.version)
    require_writable(request.output)
    progress.begin("Reading the files", 0)
    files = read_caffe2_files(request.folder)
    beside = _beside(request, files)
    prepared = _from_options(request, files) if beside is None else _from_config(request, beside)
    form, sizes = prepared.form, (prepared.min_size, prepared.max_size)
    reference = Caffe2Reference(Caffe2Model(files.network), form.image_format, *sizes)
    sample = load_sample(request.sample_image, form, most_sample_pixels(prepared.min_size))
    if count_of(reference.answer(sample)) == 0:
        raise SampleError(
            f"The model finds nothing in the {'sample' if request.sample_image else 'built-in'} "
            "image above the score threshold, so nothing can be compared. Give an image with "
            "objects that it knows: --sample-image photo.jpg"
        )
    notes = list(() if beside is None else beside.notes)
    with ExitStack() as contexts:
        stage = contexts.enter_context(staging(request.name, request.version))
        program = _copied(files, stage.folder("program"))
        spec = spec_for(
            program,
            files.family,
            form,
            prepared.names,
            _provenance(files, prepared.names),
            name=request.name,
            method=TRACING,
            runtime=CAFFE2,
            dynamic_batch=False,
            min_size_test=prepared.min_size,
            max_size_test=prepared.max_size,
            size_divisibility=files.network.size_divisibility,
            made_with=(),
        )
        settings = settings_for(spec.dynamic_batch, "cpu")
        stage.describe(program.files, spec, settings)
        progress.begin("Choosing images", 0)
        cases, not_reached = plan_cases(sample, reference, spec.dynamic_batch)
        progress.begin("Comparing with Caffe2Model", 2 * len(cases))
        bounds = RUNTIMES[CAFFE2].bounds
        verification = verify(
            stage.lay_out(),
            reference,
            cases,
            bounds,
            not_reached=not_reached,
            progress=progress.advance,
        )
        record = verification.to_json()
        if beside is not None and beside.oracle is not None:
            from d2serve.export.proof.beside_eager import about

            progress.begin("Comparing with detectron2", 2 * len(cases))
            eager, _crowded = measured(
                stage.lay_out(), beside.oracle, cases, bounds, progress=progress.advance
            )
            record[EAGER] = eager.to_json()
            notes.append(about(eager))
        spec = replace(spec, verification=record)
        stage.describe(program.files, spec, settings)
        network = network_of(from_caffe2(program.main), request.name, files.family.name)
        stage.picture(svg_of(network))
        progress.begin("Packaging", 0)
        packed = stage.pack()
        reopen(packed, reference, sample, None)
        archive = install(packed, request.output, request.name, request.version)
    return ExportResult(archive, spec, verification, tuple(notes))


def _beside(request: Caffe2Request, files: Caffe2Files) -> Beside | None:
    if request.source is None:
        return None
    from d2serve.export.proof.beside_eager import read_beside

    return read_beside(request.source, files, request.class_names, request.stuff_class_names)


def _from_config(request: Caffe2Request, beside: Beside) -> _Preparation:
    form = replace(beside.form, sixteen_bit=request.sixteen_bit)
    config = beside.config
    return _Preparation(config.min_size_test, config.max_size_test, form, beside.names)


def _from_options(request: Caffe2Request, files: Caffe2Files) -> _Preparation:
    given = {
        "--min-size-test": request.min_size_test,
        "--max-size-test": request.max_size_test,
        "--image-format": request.image_format,
    }
    missing = [option for option, value in given.items() if value is None]
    sizes = request.min_size_test, request.max_size_test
    if missing or sizes[0] is None or sizes[1] is None or request.image_format is None:
        raise ConfigError(
            f"Caffe2's files do not say how images are prepared: {', '.join(missing)} must be "
            "given as in the config that they were made of, or the config itself: --config-file. "
            "detectron2's defaults are --min-size-test 800 --max-size-test 1333 --image-format "
            "BGR; a wrong one does not fail, it only finds less."
        )
    if sizes[0] < 0 or sizes[1] < 1:
        raise ConfigError(
            f"--min-size-test is {sizes[0]} and --max-size-test {sizes[1]}, expected pixels: 0 or "
            "more (0 leaves images as they are), and 1 or more."
        )
    return _Preparation(
        sizes[0],
        sizes[1],
        _form(request.image_format, files.channels, request.sixteen_bit),
        _names(request, files),
    )


def _form(image_format: str, channels: int, sixteen_bit: str) -> ImageForm:
    check_choice("--image-format", image_format, (BGR, RGB, GREY, RGBA))
    expected = FORMATS[image_format]
    if image_format in (BGR, RGB) and channels != expected:  # bands, as a config has them
        return ImageForm(GREY if channels == 1 else BANDS, channels, sixteen_bit)
    if channels != expected:
        raise ConfigError(
            f"--image-format {image_format} has {expected} channels, and the files subtract a "
            f"mean of {channels} values: give {'BGR or RGB' if channels == 3 else 'another'}."
        )
    return ImageForm(image_format, channels, sixteen_bit)


def _names(request: Caffe2Request, files: Caffe2Files) -> Names:
    classes = names_given("--class-names", request.class_names, files.family.num_classes, INSTANCES)
    stuff = names_given("--stuff-class-names", request.stuff_class_names, files.num_labels, LABELS)
    return Names(
        classes,
        stuff,
        None if classes is None else "--class-names",
        None if stuff is None else "--stuff-class-names",
    )


def _copied(files: Caffe2Files, folder: Path) -> Program:
    net, _weights = (Path(shutil.copy(file, folder)) for file in files.files)
    return Program(net, files.family.outputs, (), ())


def _provenance(files: Caffe2Files, names: Names) -> Provenance:
    net, weights = files.files
    return Provenance(
        config=net.name,
        config_sha256=sha256_of(net),
        weights=weights.name,
        weights_sha256=sha256_of(weights),
        class_names=names.classes_from,
        stuff_class_names=names.stuff_from,
    )
