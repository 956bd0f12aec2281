"""The README's commands are run as they stand, in order, in one shell, in a copy of the project."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from d2serve.server.torchserve.config.ports import Ports
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [(match.group(1), match.group(2)) for match in _BLOCK.finditer(README)]
MINUTES = 60.0


def with_ports(text: str, ports: dict[str, str]) -> str:
    """The text with each usual port replaced, all at once."""
    return re.sub("|".join(ports), lambda match: ports[match.group()], text)


@dataclass
class Reader:
    """Someone who types the README's commands."""

    folder: Path
    environment: dict[str, str]
    ports: dict[str, str]

    def shell(self, script: str) -> str:
        """Run a block; what it exports stays for the next ones. Returns what it prints."""
        state = self.folder / ".shell_state"
        script = with_ports(script, self.ports)
        # To a file: a server started in the background would keep a pipe open for ever.
        with tempfile.TemporaryFile("w+") as printed:
            done = subprocess.run(
                [
                    "bash",
                    "-c",
                    f"[ -f {state} ] && . {state}\nset -euo pipefail\n{script}\n"
                    f"set +eu\n{{ export -p; declare -f; }} > {state}",
                ],
                cwd=self.folder,
                env=self.environment,
                timeout=10 * MINUTES,
                stdout=printed,
                stderr=subprocess.STDOUT,
                check=False,
            )
            printed.seek(0)
            output = printed.read()
        assert done.returncode == 0, f"{script}\n{output[-4000:]}"
        return output


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    """A copy of the project, with free ports in place of the usual ones."""
    free = Ports.free()
    ports = {
        "8080": str(free.inference),
        "8081": str(free.management),
        "8082": str(free.metrics),
        "7070": str(free.grpc_inference),
        "7071": str(free.grpc_management),
    }
    # Short: TorchServe's sockets lie in TMPDIR, and their paths have a limit.
    with tempfile.TemporaryDirectory(prefix="d2s") as root:
        folder, temporary = Path(root) / "p", Path(root) / "t"
        temporary.mkdir()
        files = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
        ).stdout.split("\0")
        for name in filter(None, files):
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)
        (folder / ".venv").symlink_to(Path(sys.prefix))
        config = folder / "config.properties"
        config.write_text(with_ports(config.read_text(), ports))
        kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        environment = {**kept, "TMPDIR": str(temporary), "TEMP": str(temporary)}
        environment["PATH"] = f"{Path(sys.prefix) / 'bin'}:{environment['PATH']}"
        yield Reader(folder, environment, ports)


def _block(start: str) -> str:
    found = [text for kind, text in BLOCKS if kind == "bash" and text.startswith(start)]
    assert len(found) == 1, f"{len(found)} blocks of the README start with {start!r}"
    return found[0]


STEPS = (
    "make demo",
    "export PATH",
    "d2serve doctor",
    "d2serve export --config-file examples/shapes/models/mask_rcnn_fpn.yaml \\\n  --export-method",
    "d2serve export --config-file examples/shapes/models/mask_rcnn_fpn.yaml \\\n  --format onnx",
    "python -m examples.shapes.generate",
    "d2serve extract",
    "d2serve batch",
    "d2serve serve",
    "d2serve predict",
    "export JAVA_HOME",
    "key() {",
    "curl --fail",
)


def test_every_block_has_its_step() -> None:
    shell_blocks = [text for kind, text in BLOCKS if kind == "bash"]
    assert len(shell_blocks) == len(STEPS)
    for step, text in zip(STEPS, shell_blocks):
        assert text.startswith(step)
    assert [text for kind, text in BLOCKS if kind == ""] == ["make test\n"]
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_the_answer_shown_is_json_of_the_response_format() -> None:
    shown, others = [json.loads(text) for kind, text in BLOCKS if kind == "json"]
    assert list(shown) == ["model", "version", "request_id", "image", "instances"]
    assert list(others) == ["sem_seg", "panoptic_seg", "proposals"]


@pytest.mark.server
@pytest.mark.export
def test_make_demo(reader: Reader) -> None:
    # The environment is the one this test runs in, so only the demo itself is done again.
    stamps = ("demo", "test", "package", "dev")
    command = " ".join(["make", *(f"-o .venv/.d2serve/{stamp}" for stamp in stamps), "demo"])
    printed = reader.shell(command)
    assert "HTTP and gRPC answers are the same" in printed
    assert (reader.folder / "demo.png").is_file()
    started = time.monotonic()
    again = reader.shell(command)
    assert "is there already" in again
    assert time.monotonic() - started < MINUTES


@pytest.mark.export  # the steps build on one another
def test_doctor(reader: Reader) -> None:
    reader.shell(_block("export PATH"))
    printed = reader.shell(_block("d2serve doctor"))
    assert "cascade_roi_heads" in printed
    assert "exports with rewrites" in printed
    assert "config.properties opens nothing" in printed


@pytest.mark.export
def test_export_inspect_verify_and_evaluate(reader: Reader) -> None:
    reader.shell(_block("export PATH"))
    torchscript, onnx = (step for step in STEPS if step.startswith("d2serve export"))
    printed = reader.shell(_block(onnx))
    assert "Wrote model_store/shapes_ov.mar" in printed
    assert "openvino, fp32" in printed
    printed = reader.shell(_block(torchscript))
    assert "Wrote model_store/shapes.mar" in printed
    assert "scripting, any batch a call" in printed
    assert "circle" in printed
    reader.shell(_block("d2serve extract"))
    (program,) = (reader.folder / "extracted").rglob("model.xml")
    assert program.with_name("model_spec.json").is_file()
    assert "mask_head" in (reader.folder / "shapes.svg").read_text()
    printed = reader.shell(_block("python -m examples.shapes.generate"))
    assert "000023.jpg" in printed
    assert "+0.000" in printed
    assert "AP50" in printed


@pytest.mark.export  # the steps build on one another
def test_without_a_server(reader: Reader) -> None:
    reader.shell(_block("export PATH"))
    here = next(text for kind, text in BLOCKS if kind == "python")
    printed = reader.shell(f"python - <<'EOF'\n{here}\nEOF")
    assert re.search(r"\(\d+, 480, 640\)", printed)
    printed = reader.shell(_block("d2serve batch"))
    assert "24" in printed
    assert list((reader.folder / "answers").glob("*.parquet"))
    assert len(list((reader.folder / "drawn").glob("*.png"))) == 24
    results = json.loads((reader.folder / "results.json").read_text())
    assert len({each["image_id"] for each in results}) == 24


@pytest.mark.server
def test_serve_and_predict(reader: Reader) -> None:
    command = _block("d2serve serve").split()
    ports = dict(zip(("8080", "8081", "8082", "7070", "7071"), reader.ports.values()))
    server = subprocess.Popen(
        command,
        cwd=reader.folder,
        env=reader.environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        assert server.stdout is not None
        shown = ""
        for line in server.stdout:
            shown += line
            if "Stop it with Ctrl-C" in line:
                break
        assert ports["8080"] in shown, shown
        predict = (
            _block("d2serve predict")
            .replace(
                "sample.jpg --draw", f"sample.jpg --address http://127.0.0.1:{ports['8080']} --draw"
            )
            .replace("--protocol grpc", f"--address 127.0.0.1:{ports['7070']} --protocol grpc")
        )
        printed = reader.shell(predict)
        assert (reader.folder / "drawn").is_dir()
        assert json.loads(printed.splitlines()[-1])["instances"]
        _, first, second = [text for kind, text in BLOCKS if kind == "python"]
        printed = reader.shell(f"python - <<'EOF'\n{first}\nEOF")
        assert len(printed.splitlines()) >= 2
        second += "print(len(best.instances), bool(best.instances[0].polygons), picture[:2])"
        printed = reader.shell(f"python - <<'EOF'\n{second}\nEOF")
        refused, kept = printed.splitlines()
        assert "which is no JPEG" in refused
        assert kept == r"3 True b'\xff\xd8'"
    finally:
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=2 * MINUTES)
    assert server.returncode == 0


@pytest.mark.server
def test_torchserve_as_its_users_know_it(reader: Reader) -> None:
    reader.shell(_block("export JAVA_HOME"))
    try:
        _wait_until_ready(reader)
        printed = reader.shell(_block("key() {"))
        replies = re.findall(r'\{"model":"shapes".*?\}\]\}', printed)
        ids, rest = zip(*(_without_id(reply) for reply in replies))
        assert len(set(ids)) == 2
        assert rest[0] == rest[1]
        printed = reader.shell(_block("curl --fail").replace("torchserve --stop", ""))
        assert '"batchSize": 8' in printed
        assert '"status": "READY"' in printed
        assert 'Model \\"batched\\" unregistered' in printed
    finally:
        printed = reader.shell("torchserve --stop")
    assert "stopped" in printed


def _without_id(reply: str) -> tuple[str, dict[str, Any]]:
    fields = json.loads(reply)
    return fields.pop("request_id"), fields


def _wait_until_ready(reader: Reader) -> None:
    # Someone at a terminal looks, and asks again.
    look = (
        'curl -s -H "Authorization: Bearer $(python -c "import json; print(json.load('
        "open('key_file.json'))['management']['key'])\")\" http://127.0.0.1:8081/models/shapes"
    )
    for _attempt in range(60):
        with_status = reader.shell(f"{look} || true")
        if '"READY"' in with_status:
            return
        time.sleep(1)
    raise AssertionError(with_status)
