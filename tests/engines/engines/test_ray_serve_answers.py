"""Ray Serve answers what TorchServe does, and loses nothing when replicas go."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from d2serve.client.predict.http_client import D2ServeClient
from environment.beside import python_beside
from tests.engines.engines.ray_serving import JPEG, Serving, ray_served
from tests.engines.engines.torchserve_cases import answers
from tests.engines.reference import MODEL, Reference, without_id

PREDICT = f"predictions/{MODEL}"
REPLICA = f"ray::ServeReplica:d2serve-{MODEL}-1.0"


@pytest.fixture(scope="module")
def serving(reference: Reference, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    words = [reference.archive, "--replicas", 2, "--cpus-per-replica", 0.5]
    with ray_served(tmp_path_factory.mktemp("ray"), *words) as started:
        yield started


def asked(serving: Serving, images: list[Path], at_once: int = 8) -> list[httpx.Response]:
    """The answers, in order."""
    with httpx.Client(base_url=serving.address, timeout=120, headers=JPEG) as client:

        def ask(image: Path) -> httpx.Response:
            return client.post(PREDICT, content=image.read_bytes())

        with ThreadPoolExecutor(at_once) as pool:
            return list(pool.map(ask, images))


def test_300_images_are_answered_as_by_torchserve(serving: Serving, reference: Reference) -> None:
    began = time.monotonic()
    found = asked(serving, reference.images)
    sys.stdout.write(f"{len(found) / (time.monotonic() - began):.1f} images/s")
    names = [image.name for image in reference.images]
    got = {name: without_id(each.content) for name, each in zip(names, found)}
    assert sum(got[name] == reference.answers[name] for name in names) == 300


def test_every_kind_of_request_is_answered_as_by_torchserve(
    serving: Serving, reference: Reference, tmp_path: Path
) -> None:
    output = tmp_path / "answers.json"
    module = "tests.engines.engines.torchserve_cases"
    command = [
        str(python_beside()),
        "-W",
        "ignore",
        "-m",
        module,
        str(reference.folder),
        str(output),
    ]
    subprocess.run(command, check=True, timeout=300)
    expected = json.loads(output.read_text())
    got = answers(serving.address, reference.images[0].read_bytes(), {})
    assert set(got) == set(expected)
    for name in expected:
        assert got[name] == expected[name], name
    assert len({status for status, _, _ in got.values()}) >= 3  # it was not all the same


def test_our_client_asks_it_without_a_token(serving: Serving, reference: Reference) -> None:
    with D2ServeClient(serving.address) as client:
        assert client.predict(MODEL, reference.images[0], max_detections=3).instances
        assert client.ping() == "Healthy"


def test_no_other_user_of_the_machine_can_use_its_ray(serving: Serving) -> None:
    """What Ray listens at runs any code that it is sent, so it asks for a token; ours is nowhere
    but in the environment of our own processes."""
    ports = _ports(serving, "gcs_server")
    assert ports
    for address in ports:
        script = f"import ray; ray.init('127.0.0.1:{address.rpartition(':')[2]}')"
        environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}
        stranger = subprocess.run(
            [sys.executable, "-c", script],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert stranger.returncode != 0
        assert "token" in stranger.stderr
    assert not (Path.home() / ".ray" / "auth_token").exists()


def test_a_large_upload_is_refused_without_being_read(serving: Serving) -> None:
    place = urlsplit(serving.address)
    before = _memory(serving)
    sent = 0
    with socket.create_connection((place.hostname, place.port or 0), timeout=60) as line:
        head = f"POST /{PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: {200 << 20}\r\n\r\n"
        line.sendall(head.encode())
        answer = line.recv(4096)
        try:
            for _ in range(200):
                line.sendall(bytes(1 << 20))
                sent += 1
        except OSError:
            pass
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert sent < 200
    grown = _memory(serving) - before
    sys.stdout.write(f"413; {sent} MiB were sent, the processes grew by {grown / 2**20:.0f} MiB")
    assert grown < 64 << 20


def test_metrics_are_those_of_torchserve(serving: Serving, reference: Reference) -> None:
    assert serving.ask(PREDICT, reference.images[0]).status_code == 200
    assert httpx.post(f"{serving.address}/{PREDICT}", content=b"x").status_code == 415
    ports = [each.rpartition(":")[2] for each in _ports(serving, "ray::DashboardA")]
    until, found = time.monotonic() + 60, ""
    while "ray_d2serve_rejected_total{" not in found and time.monotonic() < until:
        time.sleep(2)
        found = "".join(_text(f"http://127.0.0.1:{port}/metrics") for port in ports)
    assert 'code="unsupported_image_format"' in found
    assert f'model_name="{MODEL}"' in found
    for name in ("forward_seconds", "detections", "image_megapixels"):
        assert f"ray_d2serve_{name}_count{{" in found


def test_a_replica_that_is_killed_takes_no_answer_with_it(
    serving: Serving, reference: Reference
) -> None:
    killed: list[int] = []

    def kill() -> None:
        time.sleep(2)
        killed.append(serving.children(REPLICA)[0])
        os.kill(killed[0], signal.SIGKILL)

    threading.Thread(target=kill).start()
    found = asked(serving, reference.images * 2)
    statuses = Counter(each.status_code for each in found)
    sys.stdout.write(f"a replica of two killed: {dict(statuses)}")
    assert killed
    assert statuses == {200: 600}
    names = [image.name for image in reference.images] * 2
    assert all(without_id(each.content) == reference.answers[n] for n, each in zip(names, found))
    until = time.monotonic() + 60
    while len(serving.children(REPLICA)) < 2:
        assert time.monotonic() < until
        time.sleep(0.5)


def test_sigterm_waits_for_all_that_was_asked(serving: Serving, reference: Reference) -> None:
    """The last one, since it ends the server."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(asked, serving, reference.images[:60], 60)
        time.sleep(1.0)
        began = time.monotonic()
        status = serving.stop()
        took = time.monotonic() - began
        statuses = Counter(each.status_code for each in waiting.result())
    sys.stdout.write(f"stopped in {took:.1f} s: {dict(statuses)}")
    assert statuses == {200: 60}
    assert status == 0
    assert serving.children("") == []
    assert "Stopped." in serving.said()


def _ports(serving: Serving, word: str) -> list[str]:
    """Where its processes of a name listen."""
    listening = ["ss", "-ltnpH"]
    lines = subprocess.run(listening, capture_output=True, text=True, check=True).stdout
    ours = [f"pid={pid}," for pid in serving.children("")]
    return [
        line.split()[3]
        for line in lines.splitlines()
        if f'"{word}"' in line and any(pid in line for pid in ours)
    ]


def _memory(serving: Serving) -> int:
    """Bytes that all its processes hold."""
    page, total = resource.getpagesize(), 0
    for pid in serving.children("ray::"):
        try:
            pages = Path(f"/proc/{pid}/statm").read_text().split()
        except OSError:
            continue
        total += (int(pages[1]) - int(pages[2])) * page
    return total


def _text(address: str) -> str:
    try:
        return httpx.get(address, timeout=5).text
    except httpx.HTTPError:
        return ""
