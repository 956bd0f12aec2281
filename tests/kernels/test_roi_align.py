"""RoiAlign gives what torchvision's gives, which detectron2 runs, and refuses what is not there."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torchvision
from numpy.typing import NDArray
from onnx import TensorProto, helper

from d2serve.kernels.library import WAYS, library, ways
from d2serve.kernels.onnxruntime.program import WinogradProgram
from d2serve.kernels.onnxruntime.roi_align import _How

pytestmark = pytest.mark.skipif(library() is None, reason="no native kernels are installed")

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]
NOT_THERE = 4  # D2K_BAD_INDEX


def pooled(
    images: Floats,
    rois: Floats,
    image_of: Integers,
    how: dict[str, Any],
    way: str,
    threads: int = 1,
    row_of: Integers | None = None,
) -> Floats | int:
    """The result, or the status that the native code refuses with."""
    found = library()
    assert found is not None
    made = _How(**how, way=WAYS.index(way))
    result = np.full((len(rois), images.shape[1], how["height"], how["width"]), 7, np.float32)
    arrays = [
        None if each is None else ctypes.c_void_p(each.ctypes.data)
        for each in (images, rois, image_of, row_of, result)
    ]
    sides = [ctypes.c_int64(each) for each in images.shape]
    count = ctypes.c_int64(len(rois))
    status = found.native.d2k_align_rois(
        ctypes.byref(made), arrays[0], *sides, *arrays[1:4], count, arrays[4], count, threads
    )
    return result if status == 0 else int(status)


def expected(images: Floats, rois: Floats, image_of: Integers, how: dict[str, Any]) -> Floats:
    boxes = torch.from_numpy(np.concatenate([image_of[:, None].astype(np.float32), rois], axis=1))
    size, samples = (how["height"], how["width"]), how["sampling_ratio"] or -1
    found: Floats = torchvision.ops.roi_align(
        torch.from_numpy(images), boxes, size, how["scale"], samples, bool(how["half_pixel"])
    ).numpy()
    return found


def drawn(seed: int) -> tuple[Floats, Floats, Integers, dict[str, Any]]:
    """Images and ROIs of any size, in them, at their edge, beside them, and turned over."""
    random = np.random.default_rng(seed)
    count, channels, height, width = random.integers(1, (4, 10, 60, 60))
    images = random.standard_normal((count, channels, height, width)).astype(np.float32)
    corners = random.uniform(-1.3, 2.3, (random.integers(0, 12), 2, 2)) * (width, height)
    turned = seed % 5 == 0
    if not turned:
        corners.sort(1)
    if seed % 4 == 0:
        corners = np.round(corners)
    how = {
        "height": int(random.integers(1, 20)),
        "width": int(random.integers(1, 20)),
        # torchvision itself takes no ROI that is turned over without their number.
        "sampling_ratio": int(random.integers(1 if turned else 0, 4)) * int(turned or seed % 2),
        "scale": float(random.choice([1, 0.25, 0.125])),
        "half_pixel": int(seed % 3 > 0),
    }
    rois = (corners.reshape(-1, 4) / how["scale"]).astype(np.float32)
    return images, rois, random.integers(0, count, len(rois)), how


def test_it_is_torchvisions() -> None:
    instances = 0
    for seed in range(120):
        images, rois, image_of, how = drawn(seed)
        wanted = expected(images, rois, image_of, how)
        of_way = {way: pooled(images, rois, image_of, how, way) for way in ways()}
        for found in of_way.values():
            np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-6, err_msg=f"seed {seed}")
        for way in ways()[1:]:  # the fast ones: the same bits, and for any number of threads
            np.testing.assert_array_equal(of_way[way], of_way[ways()[-1]])
            again = pooled(images, rois, image_of, how, way, threads=3)
            np.testing.assert_array_equal(again, of_way[way])
        instances += int(np.count_nonzero(wanted.any(axis=(1, 2, 3))))
    assert instances > 300


@pytest.mark.parametrize("samples", [0, 2])
def test_what_is_no_place_gives_zeros(samples: int) -> None:
    images = np.ones((1, 3, 20, 30), np.float32)
    odd = [np.nan, np.inf, -np.inf, 3e38, -1e12, 2.0**31]
    rois = np.array([[1, 2, 9, 8]] * (4 * len(odd)) + [[-1e6, -1e6, 1e6, 1e6]], np.float32)
    for number, value in enumerate(odd):
        for place in range(4):
            rois[4 * number + place, place] = value
    how = {"height": 2, "width": 3, "sampling_ratio": samples, "scale": 1.0, "half_pixel": 1}
    for way in ways():
        found = pooled(images, rois, np.zeros(len(rois), np.int64), how, way)
        assert isinstance(found, np.ndarray)
        assert not found[:-1].any()
        # Far larger than the image: nearly all samples are beside it.
        assert found[-1].max() < 1e-3


def test_an_image_or_a_row_that_is_not_there() -> None:
    images, rois = np.ones((2, 1, 4, 4), np.float32), np.ones((2, 4), np.float32)
    how = {"height": 1, "width": 1, "sampling_ratio": 0, "scale": 1.0, "half_pixel": 1}
    good, way = np.array([0, 1]), ways()[-1]
    assert isinstance(pooled(images, rois, good, how, way, row_of=good[::-1].copy()), np.ndarray)
    for bad in ([0, 2], [-1, 0]):
        assert pooled(images, rois, np.array(bad), how, way) == NOT_THERE
        assert pooled(images, rois, good, how, way, row_of=np.array(bad)) == NOT_THERE


def pyramid(folder: Path, zero: float = 0.0, **changes: Any) -> Path:
    """Boxes of two levels, as detectron2's pooler is exported, and a RoiAlign by itself."""
    fixed: dict[str, Any] = {
        "output_height": 3,
        "output_width": 2,
        "coordinate_transformation_mode": "half_pixel",
    }
    numbers = {"minus": [-1], "none": [0], "one": [1], "end": [1 << 62], "rest": [2, 3, 2]}
    nodes = [
        helper.make_node("Shape", ["boxes"], ["shape"]),
        helper.make_node("Slice", ["shape", "none", "one"], ["count"]),
        helper.make_node("Concat", ["count", "rest"], ["whole"], axis=0),
        helper.make_node(
            "ConstantOfShape",
            ["whole"],
            ["scattered"],
            value=helper.make_tensor("", TensorProto.FLOAT, [1], np.float32(zero).tobytes(), True),
        ),
        helper.make_node("RoiAlign", ["f0", "boxes", "images"], ["alone"], **fixed),
    ]
    before = "scattered"
    for level in ("0", "1"):
        nodes += [
            helper.make_node("Gather", ["boxes", "rows" + level], ["b" + level]),
            helper.make_node("Gather", ["images", "rows" + level], ["i" + level]),
            helper.make_node(
                "RoiAlign",
                ["f" + level, "b" + level, "i" + level],
                ["a" + level],
                **{**fixed, "spatial_scale": 0.5 ** int(level), **changes},
            ),
            helper.make_node("Unsqueeze", ["rows" + level, "minus"], ["u" + level]),
            helper.make_node("Shape", ["rows" + level], ["n" + level]),
            helper.make_node("Shape", [before], ["s" + level]),
            helper.make_node("Slice", ["s" + level, "one", "end"], ["c" + level]),
            helper.make_node("Concat", ["n" + level, "c" + level], ["t" + level], axis=0),
            helper.make_node("Reshape", ["a" + level, "t" + level], ["r" + level]),
            helper.make_node("ScatterND", [before, "u" + level, "r" + level], ["d" + level]),
        ]
        before = "d" + level
    ranks = {**dict.fromkeys(FEATURES, 4), "boxes": 2, **dict.fromkeys(OF_ROIS, 1)}
    given = [
        helper.make_tensor_value_info(
            name, TensorProto.INT64 if name in OF_ROIS else TensorProto.FLOAT, [None] * rank
        )
        for name, rank in ranks.items()
    ]
    ends = [helper.make_tensor_value_info(e, TensorProto.FLOAT, None) for e in ("d1", "alone")]
    constants = [
        helper.make_tensor(name, TensorProto.INT64, [len(values)], values)
        for name, values in numbers.items()
    ]
    graph = helper.make_graph(nodes, "pyramid", given, ends, constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(made, folder / "model.onnx")
    return folder / "model.onnx"


FEATURES, OF_ROIS = ("f0", "f1"), ("images", "rows0", "rows1")


def fed(boxes: int, rows0: list[int], rows1: list[int]) -> dict[str, NDArray[Any]]:
    random = np.random.default_rng(boxes)
    corners = random.uniform(0, 20, (boxes, 2, 2))
    corners.sort(1)
    return {
        "f0": random.standard_normal((2, 2, 20, 21)).astype(np.float32),
        "f1": random.standard_normal((2, 2, 10, 11)).astype(np.float32),
        "boxes": corners.reshape(-1, 4).astype(np.float32),
        "images": random.integers(0, 2, boxes),
        "rows0": np.array(rows0, np.int64),
        "rows1": np.array(rows1, np.int64),
    }


def sessions(
    file: Path, aligns: int
) -> tuple[onnxruntime.InferenceSession, onnxruntime.InferenceSession, WinogradProgram]:
    own = onnxruntime.SessionOptions()
    program = WinogradProgram(file, None, where_it_pays=False)
    ours = onnxruntime.InferenceSession(program.edited(own, 2), own)
    assert program.aligns == aligns
    return ours, onnxruntime.InferenceSession(str(file)), program


def test_a_pyramid_in_onnxruntime(tmp_path: Path) -> None:
    ours, theirs, program = sessions(pyramid(tmp_path), 2)
    assert str(program).endswith("and d2serve's RoiAlign in 2 places")
    # All rows, some, one twice, of one level only, and no boxes at all.
    for boxes, rows0, rows1 in (
        (5, [0, 3], [1, 2, 4]),
        (5, [0], [4]),
        (4, [0, 1], [1, 2]),
        (3, [], [0, 1, 2]),
        (0, [], []),
    ):
        given = fed(boxes, rows0, rows1)
        for mine, other in zip(ours.run(None, given), theirs.run(None, given)):
            assert mine.shape == other.shape == (boxes, 2, 3, 2)
            np.testing.assert_allclose(mine, other, rtol=0, atol=1e-6)
            assert boxes == 0 or abs(other).max() > 0.1


@pytest.mark.parametrize(
    ("changes", "aligns"),
    [
        ({"zero": 1.0}, 3),  # each level by itself
        ({"mode": "max"}, 1),
        ({"coordinate_transformation_mode": "output_half_pixel", "sampling_ratio": 2}, 2),
    ],
)
def test_what_fits_in_onnxruntime(tmp_path: Path, changes: dict[str, Any], aligns: int) -> None:
    ours, theirs, _ = sessions(pyramid(tmp_path, **changes), aligns)
    given = fed(5, [0, 3], [1, 4])
    for mine, other in zip(ours.run(None, given), theirs.run(None, given)):
        np.testing.assert_allclose(mine, other, rtol=0, atol=1e-6)


def test_what_is_not_there_ends_the_call_only(tmp_path: Path) -> None:
    ours, _, _program = sessions(pyramid(tmp_path), 2)
    good = fed(5, [0, 3], [1, 4])
    with pytest.raises(Exception, match="an image, or belongs in a row, that is not there"):
        ours.run(None, {**good, "images": np.full(5, 2)})
    with pytest.raises(Exception, match="Expected images as"):
        ours.run(None, {**good, "f1": np.ones((2, 2, 10, 11), np.float32)[:, :1]})
    assert ours.run(None, good)[0].any()
