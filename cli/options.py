"""The options and arguments that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from d2serve.client.connection.credentials import KEY_FILE_NAME

DEFAULT_STORE = Path("model_store")
"""Where `d2serve export` writes, and `serve` and `list` look."""

CONFIG_FILE_HELP = (
    "The model's config: a YAML file, a LazyConfig (Python, which is run), or the name of either "
    "in detectron2's model zoo."
)
ConfigFile = Annotated[
    str,
    typer.Option("--config-file", help=CONFIG_FILE_HELP),
]
OptionalConfigFile = Annotated[
    Optional[str],
    typer.Option("--config-file", help=f"{CONFIG_FILE_HELP} Needed but for --from-caffe2."),
]
MinSizeTest = Annotated[
    Optional[int],
    typer.Option(
        help="Short edge of the resized image in pixels. Only for a LazyConfig without a test "
        "mapper, and for --from-caffe2 without a config."
    ),
]
MaxSizeTest = Annotated[
    Optional[int],
    typer.Option(
        help="Upper bound of the resized image's long edge in pixels. Only for a LazyConfig "
        "without a test mapper, and for --from-caffe2 without a config."
    ),
]
ImageFormat = Annotated[
    Optional[str],
    typer.Option(
        help="Images that the model takes: BGR, RGB, L (grey) or RGBA; of other bands BGR. "
        "Only for a LazyConfig without a test mapper, and for --from-caffe2 without a config."
    ),
]
TrustWeights = Annotated[
    bool,
    typer.Option(
        "--trust-weights",
        help="Read weights that hold more than tensors. This runs code that the file brings.",
    ),
]
WeightsKey = Annotated[
    Optional[str],
    typer.Option(
        "--weights-key",
        help="Where the tensors stand in weights that hold several sets, such as model_ema.",
    ),
]
Imports = Annotated[
    Optional[list[str]],
    typer.Option(
        "--import",
        help="Python module that registers your backbones, heads or data sets. Give it again for "
        "another.",
    ),
]
Overrides = Annotated[
    Optional[list[str]],
    typer.Argument(
        help="Values that replace those of the config: MODEL.WEIGHTS model_final.pth, for a "
        "LazyConfig train.init_checkpoint=model_final.pth.",
        metavar="OVERRIDES",
    ),
]
Archive = Annotated[
    Path,
    typer.Argument(
        help="An archive made by d2serve export, or a folder that one was unpacked to.",
        metavar="FILE.mar",
    ),
]
OwnImages = Annotated[
    Optional[Path],
    typer.Option(help="Folder of your own images. Default: the built-in ones."),
]
KeyFilePath = Annotated[
    Optional[Path],
    typer.Option(help=f"TorchServe's key file; default: ./{KEY_FILE_NAME} if it exists."),
]
CaFilePath = Annotated[
    Optional[Path],
    typer.Option(help="For https: certificates (PEM) of the authorities to trust."),
]


def key_file_or_here(given: Path | None) -> Path | None:
    """The key file that was given, otherwise the one in the current folder, if there is one."""
    here = Path(KEY_FILE_NAME)
    return here if given is None and here.exists() else given
