"""Which images a word names, in which order, and that each can be read."""

from __future__ import annotations

import io
import pickle
import tarfile
from collections.abc import Sequence
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from d2serve.server.images.sources import ImageFile, ImagesUnreadable, find_images

CONTENTS = {
    "a.jpg": b"A",
    "B.PNG": b"B",
    "deep/er/c.jpeg": b"C",
    "notes.json": b"{}",
    ".hidden.jpg": b"H",
    ".git/d.jpg": b"D",
    "results/_d2serve_batch.json": b"{}",
    "results/part-00000.parquet": b"not parquet, and not looked at",
    "results/below/e.jpg": b"E",
}


def folder_of(folder: Path, contents: dict[str, bytes]) -> Path:
    for name, data in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def read(images: Sequence[ImageFile]) -> bytes:
    """What they hold, read as on another machine."""
    return b"".join(pickle.loads(pickle.dumps(image)).read() for image in images)


def write_tar(file: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(file, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return file


def test_a_folder_is_searched_with_what_is_below_it(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "photos", CONTENTS)
    (folder / "deep" / "back").symlink_to(folder)
    images = list(find_images(str(folder)))
    names = [str(folder / name) for name in ("B.PNG", "a.jpg", "deep/er/c.jpeg")]
    assert [image.name for image in images] == names
    assert read(images) == b"BAC"


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("*", b"BA"), ("*.jpg", b"A"), ("**/*.jp*g", b"AEC"), ("[a-b].jpg", b"A")],
)
def test_a_pattern(tmp_path: Path, pattern: str, expected: bytes) -> None:
    folder = folder_of(tmp_path, {k: v for k, v in CONTENTS.items() if "part" not in k})
    images = list(find_images(str(folder / pattern)))
    assert sorted(read(images)) == sorted(expected)
    assert [image.name for image in images] == sorted(image.name for image in images)


def test_a_file_that_looks_like_a_pattern(tmp_path: Path) -> None:
    folder_of(tmp_path, {"a[1].jpg": b"A", "a1.jpg": b"B"})
    assert read(list(find_images(str(tmp_path / "a[1].jpg")))) == b"A"


@pytest.mark.parametrize("name", ["list.txt", "@list.lst"])
def test_a_list_keeps_its_order_and_names_each_once(tmp_path: Path, name: str) -> None:
    folder = folder_of(tmp_path, {"a.jpg": b"A", "deep/b.jpg": b"B"})
    shard = write_tar(folder / "c.tar", {"c.jpg": b"C"})
    lines = ["deep/b.jpg", "", f"{folder}/a.jpg", "deep/b.jpg", shard.name]
    (folder / name.lstrip("@")).write_text("\r\n".join(lines))
    at = "@" if name.startswith("@") else ""
    assert read(list(find_images(f"{at}{folder / name.lstrip('@')}"))) == b"BAC"


def test_a_single_file_may_have_any_name(tmp_path: Path) -> None:
    file = folder_of(tmp_path, {"photo": b"P"}) / "photo"
    assert [(i.name, i.read()) for i in find_images(str(file))] == [(str(file), b"P")]


def test_tar_shards(tmp_path: Path) -> None:
    shards = folder_of(tmp_path / "shards", {})
    shards.mkdir(exist_ok=True)
    members = {"00/x.jpg": b"XX", "00/x.json": b"{}", "00/x.cls": b"1", "._x.jpg": b"-"}
    first = write_tar(shards / "train-0.tar", members)
    write_tar(shards / "train-1.tar", {"y.png": b"Y"})
    for where in (shards, shards / "train-*.tar"):
        images = list(find_images(str(where)))
        assert read(images) == b"XXY"
    assert images[0].name == f"{first}::00/x.jpg"


def test_parquet_of_bytes(tmp_path: Path) -> None:
    rows = [{"bytes": bytes([65 + i]), "path": f"{i}.jpg"} for i in range(5)]
    pq.write_table(
        pa.table({"label": range(5), "image": rows}), tmp_path / "a.parquet", row_group_size=2
    )
    images = list(find_images(str(tmp_path / "a.parquet")))
    assert read(images) == b"ABCDE"
    assert images[3].name == f"{tmp_path / 'a.parquet'}::3.jpg"


def test_parquet_of_bytes_whose_paths_tell_nothing_apart(tmp_path: Path) -> None:
    table = pa.table({"path": ["same.jpg"] * 3, "image": [b"A", b"B", b"C"]})
    pq.write_table(table, tmp_path / "a.parquet")
    images = list(find_images(str(tmp_path / "a.parquet")))
    assert read(images) == b"ABC"
    assert [image.name.partition("::")[2] for image in images] == ["0", "1", "2"]


def test_parquet_of_paths_and_of_both(tmp_path: Path) -> None:
    folder_of(tmp_path, {"in/a.jpg": b"A", "in/b.jpg": b"B"})
    pq.write_table(
        pa.table({"id": [1, 2], "file_name": ["in/b.jpg", "in/a.jpg"]}), tmp_path / "p.parquet"
    )
    assert read(list(find_images(str(tmp_path / "p.parquet")))) == b"BA"
    mixed = [{"bytes": None, "path": "in/a.jpg"}, {"bytes": b"C", "path": None}]
    pq.write_table(pa.table({"image": mixed}), tmp_path / "m.parquet")
    assert read(list(find_images(str(tmp_path / "m.parquet")))) == b"AC"


def test_a_null_is_that_images_error(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [b"A", None]}), tmp_path / "n.parquet")
    first, second = find_images(str(tmp_path / "n.parquet"))
    assert first.read() == b"A"
    with pytest.raises(OSError, match="null"):
        second.read()


def test_addresses() -> None:
    memory = fsspec.filesystem("memory")
    for name, data in CONTENTS.items():
        memory.pipe(f"/bucket/{name}", data)
    with (
        fsspec.open("memory://bucket/s.tar", "wb") as file,
        tarfile.open(fileobj=file, mode="w") as tar,
    ):
        info = tarfile.TarInfo("t.jpg")
        info.size = 1
        tar.addfile(info, io.BytesIO(b"T"))
    pq.write_table(
        pa.table({"image": [b"P"]}),
        "bucket/t.parquet",
        filesystem=pa.fs.PyFileSystem(pa.fs.FSSpecHandler(memory)),
    )
    memory.pipe("/bucket/list.txt", b"deep/er/c.jpeg\na.jpg\n")
    images = list(find_images("memory://bucket"))
    assert read(images) == b"BACTP"
    assert all(image.name.startswith("memory://") for image in images)
    assert read(list(find_images("memory://bucket/*.jpg"))) == b"A"
    assert read(list(find_images("memory://bucket/list.txt"))) == b"CA"
    assert read(list(find_images("memory://bucket/a.jpg"))) == b"A"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nothing", "no such file"),
        ("empty", "no images"),
        ("*.jpg", "no images"),
        ("a.tar", "cannot be read as a tar file"),
        ("a.tgz", "compressed"),
        ("a.parquet", "cannot be read as parquet"),
        ("columns.parquet", "none has images"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "empty").mkdir()
    for broken in ("a.tar", "a.tgz", "a.parquet"):
        (tmp_path / broken).write_bytes(b"no shard" * 100)
    pq.write_table(pa.table({"label": [1]}), tmp_path / "columns.parquet")
    with pytest.raises(ImagesUnreadable, match=said):
        list(find_images(str(tmp_path / name)))


def test_an_address_without_a_package_for_it() -> None:
    with pytest.raises(ImagesUnreadable, match="nosuch"):
        list(find_images("nosuch://bucket/a"))
