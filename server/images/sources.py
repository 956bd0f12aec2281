"""Finds the images that one word names: a file, folder, pattern, list or shard, or an address."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from d2serve.server.images.image_file import FileImage, ImageFile
from d2serve.server.images.listing import in_folder, is_pattern, matching
from d2serve.server.images.shards import of_parquet, of_tar
from d2serve.server.images.stored import (
    ImagesUnreadable,
    beside,
    file_system,
    is_address,
    read_bytes,
)

__all__ = ["ImageFile", "ImagesUnreadable", "find_images"]


def find_images(where: str) -> Iterator[ImageFile]:
    """The images of one argument, each once.

    - A folder: the images and shards in it and below it, by name, without hidden ones; what has
      no suffix of an image is left out, and folders that hold results of `d2serve batch`.
    - A pattern, such as ``photos/*.jpg`` or ``photos/**/*``: what matches, by name, likewise.
    - ``@FILE``, or a file that ends in ``.txt``: a list with a path, address or shard a line, in
      the order of the list. Paths are those beside the list.
    - ``.tar``: its images, as ``SHARD::MEMBER``, in the order of the shard.
    - ``.parquet``: its rows, in their order, by a column of bytes (``SHARD::PATH`` where the file
      has a path for each that tells them apart, otherwise ``SHARD::ROW``) or of paths.
    - Any other file, whatever its suffix.

    Each may be an address, such as ``s3://bucket/photos``, for which fsspec has a package.

    Raises:
        ImagesUnreadable: nothing is there, or it cannot be read; raised as images are taken.
    """
    seen: set[str] = set()
    for image in _found(where):
        if image.name not in seen:
            seen.add(image.name)
            yield image
    if not seen:
        raise ImagesUnreadable(
            f"{where} has no images. Expected image files, or shards (.tar, .parquet), which a "
            "folder or pattern is searched for by their suffixes; a list has one a line."
        )


def _found(where: str) -> Iterator[ImageFile]:
    try:
        if where.startswith("@"):
            yield from _of_list(where[1:])
            return
        named = in_folder(where)
        if named is None and is_pattern(where) and not _is_there(where):
            named = matching(where)
        if named is not None:
            for each in named:
                yield from _of_file(each)
        elif where.lower().endswith(".txt"):
            yield from _of_list(where)
        elif _is_there(where):
            yield from _of_file(where)
        else:
            raise FileNotFoundError("there is no such file or folder")
    except ImagesUnreadable:
        raise
    except Exception as error:  # of whatever library the address belongs to
        raise ImagesUnreadable(
            f"{where} cannot be read ({str(error) or type(error).__name__}). Expected a folder, "
            "pattern, list, shard or image that is there and that you may read."
        ) from error


def _of_list(where: str) -> Iterator[ImageFile]:
    text = read_bytes(where).decode("utf-8-sig", "surrogateescape")
    for line in text.splitlines():
        if line.strip():
            yield from _of_file(beside(where, line.strip()))


def _of_file(where: str) -> Iterator[ImageFile]:
    if where.lower().endswith((".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")):
        raise ImagesUnreadable(
            f"{where} is compressed, expected a .tar that is not: images are compressed already, "
            "and one can then be read without the others. Decompress it."
        )
    if where.lower().endswith(".tar"):
        yield from of_tar(where)
    elif where.lower().endswith(".parquet"):
        yield from of_parquet(where)
    else:
        yield FileImage(where)


def _is_there(where: str) -> bool:
    if not is_address(where):
        return Path(where).is_file()
    files, path = file_system(where)
    return bool(files.isfile(path))
