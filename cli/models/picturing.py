"""``d2serve graph``: a picture of a model's network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from d2serve.cli.models.pictures import require_svg, write_picture
from d2serve.cli.options import ImageFormat, Imports, MaxSizeTest, MinSizeTest, Overrides
from d2serve.cli.running import needs_detectron2, run

if TYPE_CHECKING:
    from d2serve.export.request import Progress


def graph(
    source: Annotated[
        str,
        typer.Argument(
            help="A .onnx file, a TorchScript .pt, an OpenVINO .xml, Caffe2's model.pb, or the "
            "model's config: a YAML file, a LazyConfig (Python, which is run), or the name of "
            "either in detectron2's model zoo.",
            metavar="SOURCE",
        ),
    ],
    output: Annotated[Path, typer.Option(help="The SVG file to write.")],
    overrides: Overrides = None,
    imports: Imports = None,
    min_size_test: MinSizeTest = None,
    max_size_test: MaxSizeTest = None,
    image_format: ImageFormat = None,
) -> None:
    """Draw the network of a model: of a config or of a program's file.

    Of a config, the model is built and answers a drawn scene, with its weights where they are a
    file of this machine, otherwise with random ones. Only its picture has shapes on all edges,
    multiply-adds, and the share of the time.
    """
    require_svg(output)
    with needs_detectron2():
        from d2serve.export.picture.sources import draw
        from d2serve.export.reading.config import ConfigSource

    described = ConfigSource(
        source, overrides or (), imports or (), min_size_test, max_size_test, image_format
    )

    def work(progress: Progress) -> str:
        progress.begin("Reading the network", 0)
        return draw(described)

    drawn: str = run(work)
    write_picture(output, drawn.encode())
