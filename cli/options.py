"""The options and arguments that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

DEFAULT_STORE = Path("model_store")
"""Where `d2serve export` writes, and `serve` and `list` look."""

ConfigFile = Annotated[
    str,
    typer.Option(
        "--config-file", help="A detectron2 YAML config, a LazyConfig (it runs), or a zoo name."
    ),
]
MinSizeTest = Annotated[
    Optional[int],
    typer.Option(help="For a LazyConfig without a test mapper: the short edge in pixels."),
]
MaxSizeTest = Annotated[
    Optional[int], typer.Option(help="For such a LazyConfig: the bound of the long edge.")
]
ImageFormat = Annotated[Optional[str], typer.Option(help="For such a LazyConfig: BGR or RGB.")]
TrustWeights = Annotated[
    bool,
    typer.Option(
        "--trust-weights",
        help="Unpickle weights that hold more than tensors, which runs code that they bring.",
    ),
]
Imports = Annotated[
    Optional[list[str]],
    typer.Option("--import", help="Module that registers your backbones, heads or data sets."),
]
Overrides = Annotated[
    Optional[list[str]],
    typer.Argument(
        help="Config overrides: MODEL.WEIGHTS model_final.pth, or for a LazyConfig "
        "train.init_checkpoint=model_final.pth",
        metavar="OVERRIDES",
    ),
]
Archive = Annotated[
    Path,
    typer.Argument(
        help="A .mar file made by d2serve export, or a folder that one was unpacked to.",
        metavar="FILE.mar",
    ),
]
