"""``d2serve verify`` and ``evaluate``: an archive beside eager detectron2, once more.

The modules of the export room are imported inside the commands, as in exporting.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from d2serve.cli.models.export_tables import print_scores, print_verification
from d2serve.cli.options import (
    Archive,
    ConfigFile,
    ImageFormat,
    Imports,
    MaxSizeTest,
    MinSizeTest,
    Overrides,
    OwnImages,
    TrustWeights,
    WeightsKey,
)
from d2serve.cli.running import needs_detectron2, require_ours, run


def verify(
    archive: Archive,
    config_file: ConfigFile,
    overrides: Overrides = None,
    images: OwnImages = None,
    imports: Imports = None,
    min_size_test: MinSizeTest = None,
    max_size_test: MaxSizeTest = None,
    image_format: ImageFormat = None,
    trust_weights: TrustWeights = False,
    weights_key: WeightsKey = None,
) -> None:
    """Compare an archive with eager detectron2 again, on your own images."""
    require_ours(archive)
    with needs_detectron2():
        from d2serve.export.proof import checking
        from d2serve.export.reading.config import ConfigSource

    source = ConfigSource(
        config_file,
        overrides or (),
        imports or (),
        min_size_test,
        max_size_test,
        image_format,
        trust_weights,
        weights_key,
    )
    record = run(lambda progress: checking.verify_archive(archive, source, images, progress))
    print_verification(record.to_json())


def evaluate(
    archive: Archive,
    config_file: ConfigFile,
    coco_json: Annotated[Path, typer.Option(help="File of COCO annotations.")],
    image_root: Annotated[Path, typer.Option(help="Folder of its images.")],
    overrides: Overrides = None,
    imports: Imports = None,
    min_size_test: MinSizeTest = None,
    max_size_test: MaxSizeTest = None,
    image_format: ImageFormat = None,
    trust_weights: TrustWeights = False,
    weights_key: WeightsKey = None,
) -> None:
    """Measure the COCO AP of eager detectron2 and of an archive.

    detectron2's own evaluator measures both.
    """
    require_ours(archive)
    with needs_detectron2():
        from d2serve.export.proof import checking
        from d2serve.export.reading.config import ConfigSource

    source = ConfigSource(
        config_file,
        overrides or (),
        imports or (),
        min_size_test,
        max_size_test,
        image_format,
        trust_weights,
        weights_key,
    )
    scores = run(
        lambda progress: checking.evaluate_archive(
            archive, source, (coco_json, image_root), progress
        )
    )
    print_scores(*scores)
