"""The rows of a job as COCO results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from d2serve.client.results.coco_results import CocoIds, CocoResults
from d2serve.client.results.prediction import parse_prediction
from d2serve.server.batch.columns import ERROR_CODE, PATH
from d2serve.server.batch.job import Job
from d2serve.server.batch.results import Results
from d2serve.server.batch.rows import reply_of
from d2serve.server.images.image_file import ImageFile


def check_images(ids: CocoIds, images: Sequence[ImageFile]) -> None:
    """See that the data set has every image, before hours of work.

    Raises:
        InvalidInput: it lacks one.
    """
    for image in images:
        ids.image_id(image.name)


def write_coco_results(file: Path, ids: CocoIds, job: Job, results: Results) -> str | None:
    """Write what was found in the images that were answered.

    Returns:
        What is not in the file, as a sentence; None where all is.

    Raises:
        InvalidInput: COCO's results have no place for what the model answers, or the file cannot
            be written.
    """
    with CocoResults.writing(file, ids) as written:
        for row in results.rows():
            if row[ERROR_CODE] is None:
                reply = reply_of(row, job.spec, job.version, job.options)
                written.add(row[PATH], parse_prediction(reply))
        return written.left_out()
