"""The page in a headless Chromium, before a real TorchServe: what a user does, and what is seen."""

from __future__ import annotations

import io
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from d2serve.client.errors import ClientError
from d2serve.server.page.answering import MOST_BYTES
from d2serve.server.page.server import PageServer
from d2serve.server.torchserve.config.ports import Ports
from d2serve.server.torchserve.process import TorchServeProcess
from examples.shapes.generate import generate_split
from tests.conftest import ROOT, Exporter
from tests.deploy.proxy.browser import Browser, needs_chromium
from tests.server.page.opened import OpenedPage

pytestmark = [pytest.mark.long, pytest.mark.server, pytest.mark.export, needs_chromium]

SAMPLE = ROOT / "examples" / "shapes" / "sample.jpg"
MODELS = {
    "masks": ("mask_rcnn_fpn", "onnxruntime"),
    "keypoints": ("keypoint_rcnn_fpn", "onnxruntime"),
    "panoptic": ("panoptic_fpn", "onnxruntime"),
    "semantic": ("semantic_fpn", "onnxruntime"),
    "proposals": ("rpn_fpn", "onnxruntime"),
    "rotated": ("rotated_faster_rcnn_fpn", "scripting"),
}
TINT = 108 / 255
FAKE_CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")


@pytest.fixture(scope="module")
def server(exported: Exporter) -> Iterator[TorchServeProcess]:
    exported.ahead(*MODELS.values())
    models = {name: exported(*made) for name, made in MODELS.items()}
    with TorchServeProcess(models, overrides={"default_workers_per_model": "1"}) as running:
        yield running


@pytest.fixture(scope="module")
def address(server: TorchServeProcess) -> Iterator[str]:
    with PageServer(Ports.free().inference, server.ports) as page:
        page.serving(server, server.key_file)
        yield page.address


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser"), *FAKE_CAMERA) as made:
        made.size(1200, 900)
        yield made


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[OpenedPage]:
    """Opened anew; nothing that a test does may make Chromium complain."""
    browser.complaints()
    opened = OpenedPage(browser, address)
    yield opened
    complaints = [each for each in browser.complaints() if "the server responded" not in each]
    assert complaints == []


def png_of(photo: Path) -> bytes:
    """The photo without loss, so that Chromium and Pillow decode the same pixels."""
    file = io.BytesIO()
    with Image.open(photo) as opened:
        opened.convert("RGB").save(file, "PNG")
    return file.getvalue()


def stuff_photo(folder: Path) -> Path:
    """A held-out scene on several grounds."""
    generate_split(folder, "stuff_heldout", 2)
    return sorted((folder / "images").glob("*.jpg"))[1]


def listed(instances: list[dict[str, Any]], least: float = 0.5) -> list[list[str]]:
    kept = (each for each in instances if each["score"] >= least)
    return [[each["category_name"], f"{each['score']:.3f}"] for each in kept]


class TestWhatIsSeen:
    def test_boxes_and_masks(self, page: OpenedPage, server: TorchServeProcess) -> None:
        photo = png_of(SAMPLE)
        page.choose("model", "masks")
        assert page.drop(photo, "sample.png").startswith("sample.png: answered by masks 1.0 in ")
        answer = page.json()
        assert {**answer, "request_id": None} == {
            **server.http.predict("masks", photo).raw,
            "request_id": None,
        }
        instances = answer["instances"]
        assert page.found() == listed(instances)
        assert len(page.found()) >= 5
        self.require_tinted(page, photo, instances)

    def require_tinted(
        self, page: OpenedPage, photo: bytes, instances: list[dict[str, Any]]
    ) -> None:
        """Exactly the pixels of the best mask are tinted, where no line or name is drawn."""
        best = instances[0]["category_name"]
        page.threshold(0.99)
        for other in {name for name, _ in page.found()} - {best}:
            page.run(
                "document.querySelector(`#classes input[value=${arguments[0]}]`).click()", other
            )
        assert len(page.found()) == 1
        with Image.open(io.BytesIO(photo)) as opened:
            plain = np.asarray(opened.convert("RGB"), np.int16)
        shown, mask = page.pixels(), coco.decode(instances[0]["segmentation"]).astype(bool)
        assert shown.shape == plain.shape
        inner = coco_eroded(mask)
        assert inner.sum() > 1000
        colour = np.array([33, 127, 217])  # of circles: pen.colour_of(0)
        expected = plain + (colour - plain) * TINT
        assert np.abs(shown - expected)[inner].max() <= 3
        x0, y0, x1, y1 = instances[0]["bbox"]
        elsewhere = np.ones_like(mask)
        elsewhere[max(0, int(y0) - 22) : int(y1) + 4, max(0, int(x0) - 4) : int(x1) + 90] = False
        assert np.array_equal(shown[elsewhere], plain[elsewhere])

    def test_keypoints(self, page: OpenedPage) -> None:
        photo = png_of(SAMPLE)
        page.choose("model", "keypoints")
        page.drop(photo, "sample.png")
        best = page.json()["instances"][0]
        assert page.found() == listed(page.json()["instances"])
        pixels = page.pixels()
        points = [(round(x), round(y)) for x, y, _ in best["keypoints"]]
        assert len(points) == 5
        white = [pixels[y, x].min() > 240 for x, y in points if y < pixels.shape[0] - 1]
        assert all(white)

    def test_panoptic_and_semantic_label_maps(
        self, page: OpenedPage, server: TorchServeProcess, tmp_path: Path
    ) -> None:
        photo = png_of(stuff_photo(tmp_path))
        page.choose("model", "panoptic")
        page.drop(photo, "stuff.png")
        prediction = server.http.predict("panoptic", photo)
        assert prediction.panoptic_seg is not None
        segments = prediction.panoptic_seg.segments_info
        assert [name for name, _ in page.found()] == [each.label() for each in segments]
        assert len(segments) >= 4
        stuff = {each.id for each in segments if not each.isthing}
        labels = prediction.panoptic_seg.label_map()
        self.require_regions(page, photo, labels, stuff)
        page.view("semantic")
        assert prediction.sem_seg is not None
        assert page.found() == [
            [each.label(), f"{each.area} px"] for each in prediction.sem_seg.classes
        ]
        page.view("instances")
        assert page.found() == listed(prediction.raw["instances"])
        page.choose("model", "semantic")
        page.wait_for("/answered by semantic/.test(document.body.innerText)")
        (other,) = page.run(
            "return [...document.querySelectorAll('#views input')].map(e => e.value)"
        )
        assert other == "semantic"
        assert page.run("return document.getElementById('threshold-label').hidden")

    def require_regions(self, page: OpenedPage, photo: bytes, labels: Any, stuff: set[int]) -> None:
        """One tint for each region of stuff, and none where there is no segment."""
        with Image.open(io.BytesIO(photo)) as opened:
            plain = np.asarray(opened.convert("RGB"), np.int16)
        change = page.pixels() - plain * (1 - TINT)
        for label in stuff:
            tints = change[labels == label]
            usual = np.median(tints, axis=0)
            same = (np.abs(tints - usual).max(axis=1) <= 3).mean()
            assert same > 0.85, "but for names and lines on it"
        assert len(stuff) >= 2

    def test_proposals(self, page: OpenedPage) -> None:
        page.choose("model", "proposals")
        page.drop(SAMPLE.read_bytes(), "sample.jpg")
        page.threshold(0)
        assert page.text("count").endswith(f", the best 30 of {len(page.json()['proposals'])}")
        assert len(page.found()) == 30

    def test_rotated_boxes(self, page: OpenedPage) -> None:
        page.choose("model", "rotated")
        page.drop(SAMPLE.read_bytes(), "sample.jpg")
        assert page.json()["instances"][0]["bbox_mode"] == "XYWHA_ABS"
        assert page.found() == listed(page.json()["instances"])
        assert len(page.found()) >= 3

    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
    def test_the_photo_is_turned_as_detectron2_turns_it(
        self, page: OpenedPage, kind: str, tmp_path: Path
    ) -> None:
        from detectron2.data.detection_utils import read_image

        page.choose("model", "masks")
        with Image.open(SAMPLE) as opened:
            small = opened.convert("RGB").resize((160, 120))
        for orientation in range(1, 9):
            exif = Image.Exif()
            exif[0x0112] = orientation
            file = tmp_path / f"{orientation}.{kind.lower()}"
            small.save(file, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
            assert "answered" in page.drop(file.read_bytes(), file.name)
            page.threshold(1)
            assert page.found() == []
            expected = read_image(str(file), "RGB").astype(np.int16)
            shown = page.pixels()
            assert shown.shape == expected.shape, orientation
            away = np.abs(shown - expected).mean()
            assert away < 3 if kind == "JPEG" else away == 0, (kind, orientation)

    def test_formats_that_browsers_do_not_know_or_show_otherwise(
        self, page: OpenedPage, tmp_path: Path
    ) -> None:
        from d2serve.handlers.requests.decoding import decode

        page.choose("model", "masks")
        with Image.open(SAMPLE) as opened:
            opened.save(tmp_path / "sample.tif")
            grey = np.asarray(opened.convert("L"), np.uint16) * 257
        Image.fromarray(grey).save(tmp_path / "sixteen.png")
        for name in ("sample.tif", "sixteen.png"):
            photo = (tmp_path / name).read_bytes()
            assert "answered" in page.drop(photo, name)
            assert ("Its values: 16-bit to 8-bit." in page.text("status")) == (name != "sample.tif")
            page.threshold(1)
            assert np.array_equal(page.pixels(), decode(photo))


def coco_eroded(mask: Any) -> Any:
    """The pixels of a mask that are two or more from its edge and from all that is drawn on it."""
    inner = mask.copy()
    for axis in (0, 1):
        for shift in (-2, -1, 1, 2):
            inner &= np.roll(mask, shift, axis)
    return inner


class TestWhatAUserDoes:
    def test_the_slider_and_classes_change_the_list_at_once(
        self, page: OpenedPage, server: TorchServeProcess
    ) -> None:
        page.choose("model", "masks")
        page.drop(SAMPLE.read_bytes(), "sample.jpg")
        asked, instances = page.requests(), page.json()["instances"]
        counts = []
        for least in (0.05, 0.3, 0.6, 0.9, 1):
            page.threshold(least)
            assert page.found() == listed(instances, least)
            counts.append(len(page.found()))
            shown = server.http.predict("masks", SAMPLE, score_thresh=least).instances
            assert len(shown) == counts[-1]
        assert counts[0] > counts[-1]
        assert counts == sorted(counts, reverse=True)
        page.threshold(0.05)
        page.run("document.querySelector('#classes input[value=circle]').click()")
        assert {name for name, _ in page.found()} == {
            each["category_name"] for each in instances
        } - {"circle"}
        page.run("document.getElementById('every-class').click()")
        assert page.found() == []
        page.run("document.getElementById('every-class').click()")
        assert page.found() == listed(instances, 0.05)
        assert page.requests() == asked, "nobody was asked again"

    def test_hovering_and_the_keyboard_light_an_instance_up(self, page: OpenedPage) -> None:
        page.choose("model", "masks")
        page.drop(SAMPLE.read_bytes(), "sample.jpg")
        instances, plain = page.json()["instances"], page.pixels()
        lit = "return [...document.querySelectorAll('#found li')].findIndex(e => e.matches('.lit'))"
        for number in (0, 1):
            x, y = (
                int(each.mean())
                for each in np.nonzero(coco.decode(instances[number]["segmentation"]))[::-1]
            )
            hover = """
                const canvas = document.getElementById("canvas");
                const box = canvas.getBoundingClientRect();
                canvas.dispatchEvent(new MouseEvent("mousemove", {
                  clientX: box.left + (arguments[0] + 0.5) * box.width / canvas.width,
                  clientY: box.top + (arguments[1] + 0.5) * box.height / canvas.height }));
            """
            page.run(hover, x, y)
            assert page.run(lit) == number
            assert not np.array_equal(page.pixels(), plain)
        page.run("document.getElementById('canvas').dispatchEvent(new MouseEvent('mouseleave'))")
        assert page.run(lit) == -1
        assert np.array_equal(page.pixels(), plain)
        page.run("document.querySelectorAll('#found li')[2].focus()")
        assert page.run(lit) == 2

    def test_choose_paste_and_camera(self, page: OpenedPage, browser: Browser) -> None:
        page.choose("model", "masks")
        browser.choose("file", SAMPLE)
        page.wait_for("/sample.jpg: answered/.test(document.body.innerText)")
        assert page.run("return document.getElementById('save').hidden")
        assert "pasted" in page.drop(png_of(SAMPLE), "pasted.png", "paste")
        assert len(page.found()) >= 5
        browser.click("camera")
        page.wait_for("document.querySelector('video').videoWidth > 0")
        browser.click("take")
        page.wait_for("/camera.png: answered/.test(document.body.innerText)")
        assert not page.run("return document.getElementById('viewfinder').open")
        assert page.run("return document.querySelector('video').srcObject") is None, "it is off"
        page.run("document.getElementById('command').open = true")
        assert page.run("return document.getElementById('save').download") == "camera.png"

    @pytest.mark.parametrize(
        "name", ["photo.jpg", "my photo's [1] {2}.jpg", "-rf.jpg", "$(id).jpg"]
    )
    def test_the_curl_that_is_copied_gives_the_same_answer(
        self, page: OpenedPage, browser: Browser, tmp_path: Path, name: str
    ) -> None:
        page.choose("model", "masks")
        page.choose("version", "1.0")
        page.drop(SAMPLE.read_bytes(), name)
        (tmp_path / name).write_bytes(SAMPLE.read_bytes())
        page.run("document.getElementById('command').open = true")
        browser.allow("clipboard-read")
        browser.click("copy-curl")
        page.wait_for("document.getElementById('status').textContent === 'Copied.'")
        copied = page.run("return navigator.clipboard.readText()")
        assert copied.startswith("curl ")
        assert "/predictions/masks/1.0" in copied
        quiet = copied.replace("curl ", "curl -sS --fail --noproxy '*' ", 1)
        done = subprocess.run(["bash", "-c", quiet], cwd=tmp_path, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        answer, shown = json.loads(done.stdout), page.json()
        assert answer.pop("request_id") != shown.pop("request_id")
        assert answer == shown
        assert len(answer["instances"]) >= 5
        page.run("document.querySelector('#json').open = true")
        browser.click("copy-json")
        page.wait_for("document.getElementById('status').textContent === 'Copied.'")
        assert (
            json.loads(page.run("return navigator.clipboard.readText()"))["instances"]
            == shown["instances"]
        )

    def test_errors_are_shown_as_they_are(
        self, page: OpenedPage, server: TorchServeProcess
    ) -> None:
        page.choose("model", "masks")
        page.drop(SAMPLE.read_bytes(), "sample.jpg")
        with pytest.raises(ClientError) as refused:
            server.http.predict("masks", b"no image at all")
        assert "was not answered" in page.drop(b"no image at all", "notes.txt")
        error = page.text("error")
        assert error.startswith("415 unsupported_image_format\n")
        assert str(refused.value).partition(" (")[0] in error or "image" in error
        assert "\nrequest " in error
        assert page.found() == [], "nothing of the photo before"
        page.drop(SAMPLE.read_bytes(), "sample.jpg")
        assert page.run("return document.getElementById('error').hidden")

    def test_a_photo_too_large_is_not_sent(self, page: OpenedPage) -> None:
        page.choose("model", "masks")
        asked = page.requests()
        page.run(
            """
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(arguments[0])], "large.jpg"));
            const options = { dataTransfer: data, bubbles: true, cancelable: true };
            document.body.dispatchEvent(new DragEvent("drop", options));
            """,
            MOST_BYTES + 1,
        )
        page.wait_for("/large.jpg was not answered/.test(document.body.innerText)")
        assert f"{MOST_BYTES} at most" in page.text("error")
        assert page.requests() == asked

    def test_names_and_roles_for_those_who_do_not_see_it(self, page: OpenedPage) -> None:
        page.choose("model", "panoptic")
        page.drop(SAMPLE.read_bytes(), "sample.jpg")
        nameless = """
            const controls = [...document.querySelectorAll("button, input, select, a[href]")];
            const name = each => (each.labels?.[0]?.textContent ?? each.textContent).trim();
            return controls.filter(each => !name(each)).map(each => each.outerHTML);
        """
        assert page.run(nameless) == []
        assert page.run("return document.documentElement.lang") == "en"
        assert page.run("return document.getElementById('status').getAttribute('role')") == "status"
        assert "things found" in page.run("return document.getElementById('canvas').ariaLabel")

    def test_dark_and_light(self, page: OpenedPage, browser: Browser) -> None:
        colour = "return getComputedStyle(document.body).backgroundColor"
        seen = [page.run(colour)]
        for _ in range(2):
            browser.click("theme")
            seen.append(page.run(colour))
        assert seen[0] == seen[2] != seen[1]


class TestAnotherKey:
    def test_a_page_without_the_key_says_which_address_to_open(
        self, browser: Browser, address: str
    ) -> None:
        browser.open("about:blank")
        browser.open(address.partition("#")[0])
        assert "Open the address that `d2serve serve` printed" in browser.text("trouble")
        # The right address pasted there: only what is behind the # differs, so nothing loads anew.
        browser.open(address)
        deadline = time.monotonic() + 30
        while browser.run("return document.getElementById('model').length") == 0:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        browser.complaints()
