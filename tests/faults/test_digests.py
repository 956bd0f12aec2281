"""``d2serve serve --require-digest``: only what is listed starts."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import httpx
import pytest

from d2serve.client.errors import ArchiveRefused, RequestRejected, ServerStartError
from d2serve.server.archives.digests import read_digests
from d2serve.server.torchserve.process import TorchServeProcess
from tests.faults.conftest import Operator


def listed(store: Path, target: Path) -> Path:
    """As docs/security.md says to make it."""
    made = subprocess.run(
        "sha256sum *.mar", shell=True, cwd=store, check=True, capture_output=True, text=True
    )
    target.write_text(made.stdout)
    return target


@pytest.mark.server
def test_a_listed_archive_is_served_and_nothing_else_can_be_loaded(
    operator: Operator,
) -> None:
    digests = listed(operator.store, operator.folder / "digests.txt")
    with TorchServeProcess(
        ["canned.mar"], model_store=operator.store, require_digest=digests
    ) as server:
        served = server.models[0].archive
        assert served.parent != operator.store
        assert not served.is_symlink(), "a copy, so that a change of the store comes too late"
        assert server.http.predict("canned", b"1").model == "canned"
        for url in ("canned.mar", str(operator.store / "canned.mar")):
            with pytest.raises(RequestRejected) as caught:
                server.management.register(url, model_name="more")
            assert caught.value.status == 405
        workflow = httpx.post(
            f"{server.management_address}/workflows",
            params={"url": "w.war"},
            headers={"authorization": f"Bearer {server.management_token}"},
        )
        assert workflow.status_code >= 400
        assert list(server.management.list_models()) == ["canned"]


def test_serve_refuses_a_changed_and_an_unlisted_archive(operator: Operator) -> None:
    digests = listed(operator.store, operator.folder / "digests.txt")
    archive = operator.store / "canned.mar"
    archive.write_bytes(archive.read_bytes() + b"\0")
    for name in ("canned.mar", "other.mar"):
        archive = archive.rename(operator.store / name)
        process = operator.start(*operator.serve(f"--require-digest={digests}"))
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 1
        told = errors.splitlines()[-1]
        assert f"{name} is not listed" in told
        assert hashlib.sha256(archive.read_bytes()).hexdigest() in told
        assert ("lists" in told) == (name == "canned.mar"), "another digest for that name"
        assert "sha256sum" in told
        assert list(operator.temporary.iterdir()) == []


def test_the_format_of_sha256sum(tmp_path: Path) -> None:
    digests = tmp_path / "digests.txt"
    digests.write_text(f"# by hand\n{'A' * 64}  a.mar\n{'b' * 64} *store/b.mar\n\n")
    read = read_digests(digests)
    read.require(Path("renamed.mar"), "a" * 64)
    with pytest.raises(ArchiveRefused, match=f"lists {'b' * 64} for that name"):
        read.require(Path("b.mar"), "c" * 64)
    with pytest.raises(ArchiveRefused, match="nor its name"):
        read.require(Path("c.mar"), "c" * 64)


@pytest.mark.parametrize(
    "content", [b"no digest\n", b"abc  a.mar\n", b"\xff\xfe", b"a" * 64 + b"\n", None]
)
def test_a_list_that_cannot_be_read_is_no_list(tmp_path: Path, content: bytes | None) -> None:
    digests = tmp_path / "digests.txt"
    if content is not None:
        digests.write_bytes(content)
    with pytest.raises(ServerStartError, match=r"digests\.txt.*sha256sum"):
        TorchServeProcess(require_digest=digests)
