"""Opens a packed archive as a server does, before it is installed."""

from __future__ import annotations

from pathlib import Path

from d2serve.export.archive.opening import opened
from d2serve.export.errors import ArchiveError
from d2serve.export.proof.cases import Case
from d2serve.export.proof.isolated_replay import replay
from d2serve.export.proof.reference import Reference
from d2serve.export.proof.verification import verify
from d2serve.export.reading.image_files import Pixels, write_image_file
from d2serve.handlers.errors import LoadError
from d2serve.handlers.spec.model_spec import read_spec
from d2serve.handlers.spec.runtimes import FP32, RUNTIMES


def reopen(archive: Path, reference: Reference, sample: Pixels, gpu: int | None) -> None:
    """Make sure that an archive can be read, and answers the sample as the reference does.

    Raises:
        ExportError: it cannot, or answers otherwise.
    """
    with opened(archive) as model_dir:
        try:
            spec = read_spec(model_dir)
        except LoadError as error:
            raise ArchiveError(f"The archive that was written cannot be read: {error}") from error
        if spec.precision == FP32:
            case = Case({"sample": sample}, False)
            bounds = RUNTIMES[spec.runtime].bounds
            verify(model_dir, reference, [case], bounds, gpu_id=gpu, progress=lambda: None)
        else:  # what it may differ by was judged by its AP; here it only has to answer
            picture = write_image_file(sample, archive.with_name("sample"))
            replay(model_dir, [[picture]], gpu_id=gpu)
