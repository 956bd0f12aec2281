"""Mutated images, archives and specs end no process, find nothing for the sanitizers, and take no
longer than their limits."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest
from PIL import Image

from tests.cpp.models import archive_of, files_of
from tests.cpp.probing import Probe
from tests.cpp.test_archives import SPEC
from tests.cpp.test_images import exif, interlaced, pixels, png

SECONDS = float(os.environ.get("D2SERVE_FUZZ_SECONDS", "8"))


def seeds(folder: Path) -> list[Path]:
    """Small files of each kind, so that a mutation meets something."""
    colour = Image.fromarray(pixels(21, 34, 3))
    for name, options in (
        ("baseline", {"subsampling": "4:2:0", "exif": b"Exif\0\0" + exif(6)}),
        ("progressive", {"progressive": True, "subsampling": "4:4:4"}),
        ("restarts", {"restart_marker_blocks": 1}),
    ):
        colour.save(folder / f"{name}.jpg", **options)
    colour.convert("L").save(folder / "grey.jpg")
    colour.convert("CMYK").save(folder / "cmyk.jpg")
    colour.quantize(7).save(folder / "palette.png")
    for bits, kind in ((1, 0), (16, 0), (8, 2), (16, 4), (8, 6)):
        data = png(13, 17, bits, kind)
        (folder / f"{bits}-{kind}.png").write_bytes(data)
        (folder / f"{bits}-{kind}-adam7.png").write_bytes(interlaced(data, (13, 17), bits, kind))
    (folder / "spec.json").write_bytes(files_of(SPEC)["model_spec.json"])
    archive_of(files_of(SPEC), folder / "model.mar")
    return sorted(folder.iterdir())


def test_mutations(probe: Probe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "seeds"
    folder.mkdir()
    seed = int(time.time()) % 1_000_000
    files = map(str, seeds(folder))
    monkeypatch.setenv("D2SERVE_FUZZ_KEEP", str(tmp_path))
    told = probe.run("fuzz", str(SECONDS), str(seed), *files, wait=SECONDS + 120).line()
    print(f"seed {seed}: {told}")  # noqa: T201 (make cpp-fuzz shows it)
    found = re.fullmatch(r"(\d+) tried, (\d+) read, slowest ([\d.e-]+) s", told)
    assert found is not None, told
    tried, read, slowest = map(float, found.groups())
    assert tried > 50 * SECONDS
    assert 0.01 < read / tried < 0.99
    assert slowest < 5
