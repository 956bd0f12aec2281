"""Takes the program out of an archive, into a folder as the engine that runs it wants it.

TensorFlow Serving, a program in C++ or a reader of ONNX files need no archive. The folder is there
whole, or not at all.
"""

from __future__ import annotations

import re
from pathlib import Path

from d2serve.client.errors import ArchiveRefused, ClientError
from d2serve.client.whole_files import made_whole
from d2serve.handlers.bundle import copy_program
from d2serve.handlers.errors import LoadError
from d2serve.handlers.runtimes.loading import check_program
from d2serve.handlers.spec.model_spec import PICTURE_FILE, ModelSpec
from d2serve.handlers.spec.runtimes import RUNTIMES
from d2serve.server.archives.contents import ArchiveContents, read_contents

# Of TensorFlow Serving's versions, each an integer: 3 and 3.0 are the third.
_NUMBER = re.compile(r"([1-9][0-9]{0,17})(?:\.0)?")


class NotExtracted(ClientError):
    """The folder cannot be written."""


def extract(archive: Path, output: Path) -> Path:
    """Write an archive's program, model_spec.json and picture into a new folder.

    Args:
        archive: a .mar, or the folder that one was unpacked to.
        output: the folder in which one of the model's name is made; it is made too.

    Returns:
        The folder of the files: OUTPUT/NAME, or OUTPUT/NAME/NUMBER where the runtime's makers' own
        server wants it so, with the number of the model's version, or 1 where that is no integer.

    Raises:
        ArchiveRefused: it is no archive of `d2serve export`, or was changed or damaged.
        NotExtracted: the folder is there already, or cannot be written.
    """
    contents = read_contents(archive)
    spec = contents.spec()
    target = output / _place(contents, spec)
    if target.exists():
        raise NotExtracted(
            f"{target} is there already, and nothing is overwritten. Remove it, or name another "
            "folder with --output."
        )
    try:
        with made_whole(target, output) as made:
            copy_program(archive, made, (PICTURE_FILE,))
            check_program(made, spec)
    except LoadError as error:
        raise ArchiveRefused(str(error)) from error
    except OSError as error:
        raise NotExtracted(
            f"{target} cannot be written ({error.strerror or error}). Expected a folder with room "
            "that you may write; name another one with --output."
        ) from error
    return target


def _place(contents: ArchiveContents, spec: ModelSpec) -> Path:
    if not re.fullmatch(r"[^\\/:\0]+", contents.name) or contents.name in (".", ".."):
        raise ArchiveRefused(
            f"{contents.path} names its model {contents.name!r}, expected a name that a folder can "
            "have. No exporter writes that: find out where it comes from."
        )
    facts = RUNTIMES[spec.runtime]
    if not facts.numbered or spec.program != facts.main_file:
        return Path(contents.name)
    found = _NUMBER.fullmatch(contents.version)
    return Path(contents.name, found[1] if found else "1")
