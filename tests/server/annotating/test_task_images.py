"""Where the images of Label Studio's tasks may come from, and where not."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from d2serve.client.errors import InvalidInput
from d2serve.server.annotating.task_images import TaskImages
from tests.server.annotating.label_studio_host import Host, running

IMAGE = b"an image"


@pytest.fixture
def studio() -> Iterator[Host]:
    with running(Host(authorization="Token key")) as host:
        yield host


@pytest.fixture
def storage() -> Iterator[Host]:
    with running(Host(files={"/a.jpg?signature=1": IMAGE})) as host:
        yield host


def _images(studio: Host, **settings: object) -> TaskImages:
    return TaskImages(100, label_studio=studio.address, api_key="key", **settings)  # type: ignore[arg-type]


def test_an_upload_is_read_with_the_key(studio: Host) -> None:
    studio.files["/data/upload/1/a.jpg"] = IMAGE
    images = _images(studio)
    for where in (
        "/data/upload/1/a.jpg",
        "upload/1/a.jpg",
        f"{studio.address}/data/upload/1/a.jpg",
    ):
        assert images.read(where) == IMAGE
    assert {key for _, key in studio.asked} == {"Token key"}


def test_an_upload_in_a_storage_is_read_by_its_other_path(studio: Host) -> None:
    studio.files["/storage-data/uploaded/?filepath=upload/1/a.jpg"] = IMAGE
    assert _images(studio).read("/data/upload/1/a.jpg") == IMAGE


def test_a_personal_access_token_is_exchanged_once(studio: Host) -> None:
    studio.files["/data/upload/1/a.jpg"] = IMAGE
    studio.authorization = "Bearer short"
    images = TaskImages(100, label_studio=studio.address, api_key="a.personal.token")
    assert images.read("/data/upload/1/a.jpg") == images.read("/data/upload/1/a.jpg") == IMAGE
    exchanges = [key for path, key in studio.asked if path == "/api/token/refresh"]
    assert exchanges == ["a.personal.token"]


def test_a_wrong_key_says_so(studio: Host) -> None:
    images = TaskImages(100, label_studio=studio.address, api_key="other")
    with pytest.raises(InvalidInput, match=r"HTTP 401.*LABEL_STUDIO_API_KEY"):
        images.read("/data/upload/1/a.jpg")


def test_a_storage_is_reached_by_a_signed_link_without_the_key(studio: Host, storage: Host) -> None:
    link = base64.urlsafe_b64encode(b"s3://bucket/a.jpg").decode()
    signed = f"{storage.address}/a.jpg?signature=1"
    studio.redirects[f"/tasks/5/presign/?fileuri={link.replace('=', '%3D')}"] = signed
    images = _images(studio, hosts=["127.0.0.1"])
    assert images.read("s3://bucket/a.jpg", 5) == IMAGE
    assert storage.asked == [("/a.jpg?signature=1", None)]
    assert images.read(signed) == IMAGE


def test_no_other_host_is_asked(studio: Host, storage: Host) -> None:
    signed = f"{storage.address}/a.jpg?signature=1"
    studio.redirects["/data/upload/1/a.jpg"] = signed
    images = _images(studio, hosts=["images.example"])
    for where in (signed, "/data/upload/1/a.jpg"):
        with pytest.raises(InvalidInput, match=r"may not ask.*--image-host 127\.0\.0\.1") as caught:
            images.read(where)
        assert "signature" not in str(caught.value)
    assert storage.asked == []


@pytest.mark.parametrize(
    "where",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/a",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1",
        "http://user@127.0.0.1.example/",
        "photo.jpg",
        "//elsewhere.example/a.jpg",
    ],
)
def test_what_is_no_image_of_an_allowed_host(where: str, studio: Host) -> None:
    with pytest.raises(InvalidInput):
        _images(studio).read(where)
    assert all("elsewhere" in path for path, _ in studio.asked)  # a path of Label Studio's


@pytest.mark.parametrize("where", [None, 5, "", {"url": "a"}])
def test_what_is_no_text(where: object, studio: Host) -> None:
    with pytest.raises(InvalidInput, match="expected text"):
        _images(studio).read(where)


def test_a_circle_of_redirections_ends(studio: Host) -> None:
    studio.redirects["/a"] = "/a"
    with pytest.raises(InvalidInput, match="too many redirections"):
        _images(studio).read("/a")
    assert len(studio.asked) < 10


def test_too_large(studio: Host, tmp_path: Path) -> None:
    studio.files["/data/upload/1/a.jpg"] = bytes(101)
    (tmp_path / "a.jpg").write_bytes(bytes(101))
    images = _images(studio, folder=tmp_path)
    data = base64.b64encode(bytes(101)).decode()
    for where in (
        "/data/upload/1/a.jpg",
        "/data/local-files/?d=a.jpg",
        f"data:image/jpeg;base64,{data}",
    ):
        with pytest.raises(InvalidInput, match="more than 100 bytes"):
            images.read(where)


def test_data_uris(studio: Host) -> None:
    images = _images(studio)
    encoded = base64.b64encode(IMAGE).decode()
    assert images.read(f"data:image/jpeg;base64,{encoded}") == IMAGE
    assert images.read("data:,an%20image") == IMAGE
    for broken in ("data:image/jpeg;base64,@@@", "data:image/jpeg", "data:image/jpeg;base64,"):
        with pytest.raises(InvalidInput):
            images.read(broken)
    assert studio.asked == []


def test_local_files_are_those_of_one_folder(studio: Host, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    (folder / "a b").mkdir(parents=True)
    (folder / "a b" / "c.jpg").write_bytes(IMAGE)
    (tmp_path / "secret").write_bytes(b"secret")
    (folder / "link").symlink_to(tmp_path / "secret")
    images = _images(studio, folder=folder)
    assert images.read("/data/local-files/?d=a%20b/c.jpg") == IMAGE
    assert images.read("/data/local-files/?d=/a%20b/c.jpg") == IMAGE
    for outside in ("../secret", "link", "a/../../secret", "%2e%2e/secret"):
        with pytest.raises(InvalidInput, match="leaves the folder"):
            images.read(f"/data/local-files/?d={outside}")
    for nothing in ("none.jpg", "", "a%20b", "a%00b"):
        with pytest.raises(InvalidInput, match="cannot be read"):
            images.read(f"/data/local-files/?d={nothing}")
    assert studio.asked == []


def test_local_files_are_label_studios_where_no_folder_is_given(studio: Host) -> None:
    studio.files["/data/local-files/?d=a.jpg"] = IMAGE
    assert _images(studio).read("/data/local-files/?d=a.jpg") == IMAGE


def test_without_label_studio_its_paths_cannot_be_read() -> None:
    with pytest.raises(InvalidInput, match="--label-studio http"):
        TaskImages(100).read("/data/upload/1/a.jpg")
    with pytest.raises(InvalidInput, match="with its scheme"):
        TaskImages(100, label_studio="localhost:8080")
