"""A stand-in for the server of CVAT: one task, as much of it as cvat-sdk asks for."""

from __future__ import annotations

import io
import json
import threading
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cvat_sdk import Client, Config
from cvat_sdk.api_client.model_utils import to_json
from PIL import Image

TASK = 7
_DATE = "2026-01-01T00:00:00Z"
_LABELS_FROM = 100
"""Ids of the task's labels, which are not those of a function."""


class Task:
    """A task: its frames, its labels, and what is uploaded."""

    def __init__(self, frames: Sequence[Path], labels: Sequence[Any]) -> None:
        """
        Args:
            frames: image files.
            labels: those of a function's spec, under ids of the task's own.
        """
        self.frames = frames
        self.labels = [
            _with_ids(to_json(label), _LABELS_FROM + i) for i, label in enumerate(labels)
        ]
        self.shapes: list[dict[str, Any]] = []

    def name_of(self, label_id: int) -> str:
        return str(self.labels[label_id - _LABELS_FROM]["name"])

    def answer(self, path: str) -> Any:
        """JSON, or bytes, for a path of CVAT's API."""
        if path == f"/api/tasks/{TASK}":
            return {
                "id": TASK,
                "name": "task",
                "jobs": {"url": "x", "count": 1, "completed": 0, "validation": 0},
                "labels": {"url": "x"},
                "size": len(self.frames),
                "data_chunk_size": len(self.frames),
                "data_original_chunk_type": "imageset",
                "updated_date": _DATE,
                "organization": None,
            }
        if path == "/api/labels":
            return {"count": len(self.labels), "next": None, "results": self.labels}
        if path == f"/api/tasks/{TASK}/data/meta":
            return {
                "chunks_updated_date": _DATE,
                "deleted_frames": [],
                "frames": [_frame(file) for file in self.frames],
            }
        if path == f"/api/tasks/{TASK}/data":
            packed = io.BytesIO()
            with zipfile.ZipFile(packed, "w") as chunk:
                for i, file in enumerate(self.frames):
                    chunk.writestr(f"{i:06}{file.suffix}", file.read_bytes())
            return packed.getvalue()
        raise LookupError(path)

    def of_frame(self, frame: int) -> list[dict[str, Any]]:
        """What was uploaded of one frame."""
        return [shape for shape in self.shapes if shape["frame"] == frame]


@contextmanager
def serving(task: Task) -> Iterator[str]:
    """The address of a server that has this task."""
    handler = type("Bound", (_Handler,), {"task": task})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def client_of(task: Task, folder: Path) -> Iterator[Client]:
    """CVAT's own client of such a server; it keeps its files in the folder."""
    with serving(task) as address:
        config = Config(cache_dir=folder)
        with Client(address, config=config, check_server_version=False) as client:
            yield client


class _Handler(BaseHTTPRequestHandler):
    task: Task

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        try:
            answer = self.task.answer(asked.path.rstrip("/"))
        except LookupError:
            self._send(404, asked.path.encode(), "text/plain")
            return
        if isinstance(answer, bytes):
            self._send(200, answer, "application/zip")
        else:
            self._send(200, json.dumps(answer).encode(), "application/json")

    def do_PATCH(self) -> None:
        asked = urlsplit(self.path)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert asked.path.rstrip("/") == f"/api/tasks/{TASK}/annotations"
        assert parse_qs(asked.query)["action"] == ["create"]
        uploaded = json.loads(body)
        self.task.shapes += uploaded["shapes"]
        # As the server keeps them; nothing here reads the answer.
        self._send(
            200, b'{"version": 1, "tags": [], "shapes": [], "tracks": []}', "application/json"
        )

    def _send(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def _with_ids(label: dict[str, Any], number: int) -> dict[str, Any]:
    points = [
        {**each, "id": number * 100 + i, "attributes": []}
        for i, each in enumerate(label.get("sublabels") or [])
    ]
    return {**label, "id": number, "attributes": [], "sublabels": points}


def _frame(file: Path) -> dict[str, Any]:
    with Image.open(file) as image:
        width, height = image.size
    return {"name": file.name, "width": width, "height": height, "related_files": 0}
