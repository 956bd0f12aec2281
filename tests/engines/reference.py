"""What TorchServe answers to 300 images: the bytes that every other engine must give.

    python -m tests.engines.reference FOLDER

exports the archive, asks a real TorchServe and writes both, with the images, into the folder. It
runs in the environment that has detectron2 and TorchServe; others read it as ``Reference``.
"""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import httpx

MODEL = "mask_rcnn_fpn"
COUNT = 300
_ANSWERS = "answers.jsonl"
_REQUEST_ID = re.compile(rb'"request_id":"[^"]*"')


def without_id(reply: bytes) -> bytes:
    """A reply of JSON without the id of its request, which is the only part that may differ."""
    return _REQUEST_ID.sub(b'"request_id":""', reply)


@dataclass(frozen=True)
class Reference:
    """What lies in the folder."""

    folder: Path

    @property
    def archive(self) -> Path:
        """Of a trained Mask R-CNN for ONNX Runtime, named mask_rcnn_fpn, of version 1.0."""
        return self.folder / f"{MODEL}.mar"

    @cached_property
    def images(self) -> list[Path]:
        """The 300 JPEG files."""
        return sorted((self.folder / "images").glob("*.jpg"))

    @cached_property
    def answers(self) -> dict[str, bytes]:
        """TorchServe's replies without their ids, by the name of the image file."""
        lines = (self.folder / _ANSWERS).read_text(encoding="utf-8").splitlines()
        return {name: reply.encode() for name, reply in map(json.loads, lines)}


def make(folder: Path) -> None:
    """Export, ask and write."""
    from d2serve.export.pipeline import export
    from d2serve.export.request import ExportRequest, Progress
    from d2serve.server.torchserve.process import TorchServeProcess
    from examples.shapes.generate import generate_split
    from tests.exports import source_of

    folder.mkdir(parents=True, exist_ok=True)
    generate_split(folder, "heldout", COUNT)
    request = ExportRequest(
        source=source_of(MODEL), method="tracing", name=MODEL, output=folder, format="onnx"
    )
    reference = Reference(folder)
    if not reference.archive.is_file():
        export(request, Progress(lambda _step, _parts: None, lambda: None))
    settings = {"default_workers_per_model": "1"}
    with (
        TorchServeProcess({MODEL: reference.archive}, overrides=settings) as server,
        (folder / _ANSWERS).open("w", encoding="utf-8") as lines,
    ):
        for image in reference.images:
            reply = _asked(server.inference_address, server.inference_token or "", image)
            lines.write(json.dumps([image.name, without_id(reply).decode()]) + "\n")
    found = sum(reply.count(b'"bbox"') for reply in reference.answers.values())
    if len(reference.answers) != COUNT or found < COUNT:
        raise SystemExit(f"TorchServe answered {len(reference.answers)} images with {found} boxes.")


def _asked(address: str, token: str, image: Path) -> bytes:
    reply = httpx.post(
        f"{address}/predictions/{MODEL}",
        content=image.read_bytes(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "image/jpeg"},
        timeout=60,
    )
    reply.raise_for_status()
    return reply.content


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    make(parser.parse_args().folder)
