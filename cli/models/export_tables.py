"""Tables of what an archive holds, how it was verified and what it scores."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from d2serve.cli.progress import console
from d2serve.client.errors import ArchiveRefused
from d2serve.handlers.spec.model_spec import PICTURE_FILE
from d2serve.handlers.spec.output_names import BOXES, SEM_SEG
from d2serve.server.archives.contents import ArchiveContents, read_contents

if TYPE_CHECKING:
    from d2serve.export.result import ExportResult
    from d2serve.handlers.spec.extras import Extra
    from d2serve.handlers.spec.model_spec import ModelSpec


def print_spec(spec: ModelSpec, version: str, picture: bytes | None) -> None:
    title = f"{spec.name} {version}: {spec.family}"
    table = Table(title=escape(title), show_header=False, title_justify="left")
    resize = f"short edge {spec.min_size_test}, long edge at most {spec.max_size_test}"
    rows = {
        "method": f"{spec.method}, {'any batch' if spec.dynamic_batch else 'one image'} a call",
        "runtime": f"{spec.runtime}, {spec.precision}",
        "program": "\n".join(f"{file}, sha256 {value}" for file, value in spec.sha256.items()),
        "image": f"{_channels(spec)}, {resize}, padded to a multiple of {spec.size_divisibility}",
        "outputs": ", ".join(spec.outputs),
        "own outputs": ", ".join(map(_shown, spec.extras)),
        "classes": "not named" if spec.class_names is None else ", ".join(spec.class_names),
        "labels": ", ".join(spec.stuff_class_names or ()) or "not named",
        "boxes": spec.box_mode,
        "thresholds": _thresholds(spec),
        "rewrites": ", ".join(spec.rewrites) or "none",
        "made with": ", ".join(f"{tool} {number}" for tool, number in spec.versions.items()),
        "made of": _made_of(spec),
        "picture": f"{PICTURE_FILE}, {len(picture) / 1000:.0f} kB" if picture else "none",
        "schema": str(spec.schema_version),
    }
    if SEM_SEG not in spec.outputs:
        del rows["labels"]
    if not spec.extras:
        del rows["own outputs"]
    if BOXES not in spec.outputs:
        for key in ("classes", "boxes", "thresholds"):
            del rows[key]
    table.add_column()
    table.add_column(overflow="fold")  # a digest that is cut off is of no use
    for key, value in rows.items():
        table.add_row(key, escape(value))
    console.print(table)


def print_result(result: ExportResult, names_given: bool) -> None:
    """What an export made, and what its user, who gave class names or not, should know of it."""
    for note in result.notes:
        console.print(f"[yellow]Note:[/] {escape(note)}", soft_wrap=True, highlight=False)
    print_verification(result.spec.verification)
    print_accuracy(result.spec)
    print_origin(result.spec)
    console.print(f"[green]Wrote[/] {escape(str(result.archive))}", soft_wrap=True)
    print_other_versions(result.archive)
    if not names_given and result.spec.class_names is None:
        console.print("No class names are known: give --class-names to have them in the answers.")


def print_other_versions(archive: Path) -> None:
    """Which versions of the same model stay beside an archive that was just written, and which of
    all answers where a request names none."""
    versions = [read_contents(archive)]
    for file in archive.parent.glob("*.mar"):
        with suppress(ArchiveRefused):  # `d2serve list` says what is wrong with it
            found = read_contents(file)
            if found.name == versions[0].name and file.name != archive.name:
                versions.append(found)
    if len(versions) == 1:
        return
    stay = ", ".join(f"{each.version} in {each.path.name}" for each in versions[1:])
    first = min(versions, key=ArchiveContents.order).version
    text = (
        f"Beside it stays {stay}. `d2serve serve` of the whole store serves all of them, and "
        f"{first} answers where a request names no version; `d2serve upgrade` changes that on a "
        "server that runs."
    )
    console.print(escape(text), soft_wrap=True, highlight=False)


def print_origin(spec: ModelSpec) -> None:
    """What an archive was made of, and what its model answers of its own, in lines."""
    if spec.extras:
        own = escape(", ".join(map(_shown, spec.extras)))
        console.print(f"Its own outputs, compared and served: {own}", soft_wrap=True)
    made_of = escape(_made_of(spec))
    console.print(f"Made of {made_of}", soft_wrap=True, highlight=False)


def _thresholds(spec: ModelSpec) -> str:
    """Those that are known: models with an end of their own have theirs inside."""
    limit = spec.detections_per_image
    known = {
        f"score {spec.score_thresh}": spec.score_thresh,
        f"NMS {spec.nms_thresh}": spec.nms_thresh,
        f"mask {spec.mask_threshold}": None if spec.postprocessed else spec.mask_threshold,
        # Negative is detectron2's word for none.
        f"at most {limit} instances": limit if limit is None or limit >= 0 else None,
        "no limit of instances": limit if limit is not None and limit < 0 else None,
    }
    return ", ".join(text for text, value in known.items() if value is not None) or "its own"


def _channels(spec: ModelSpec) -> str:
    if spec.channels == 3:
        return spec.image_format
    return spec.image_form.described


def _shown(extra: Extra) -> str:
    sides = ", ".join("any" if side is None else str(side) for side in extra.shape)
    return f"{extra.name} ({extra.dtype} [{sides}] per {extra.per})"


def _made_of(spec: ModelSpec) -> str:
    provenance = spec.provenance
    if provenance is None:
        return "not recorded: the archive is of an older d2serve"
    # Of a config, what it came to is meant; the network of --from-caffe2 is in the archive itself.
    resolved = "" if provenance.config in spec.sha256 else ", resolved"
    lines = [
        f"{provenance.weights}, sha256 {provenance.weights_sha256}",
        f"{provenance.config}{resolved}, sha256 {provenance.config_sha256}",
    ]
    if provenance.class_names is not None:
        lines.append(f"class names from {provenance.class_names}")
    if provenance.stuff_class_names is not None:
        lines.append(f"names of labels from {provenance.stuff_class_names}")
    return "\n".join(lines)


def print_verification(record: Any) -> None:
    table = Table(title=f"Verified against {record['reference']}", title_justify="left")
    longest = max(len(row["image"]) for row in record["differences"])
    table.add_column("image", min_width=min(longest, 40), overflow="fold")
    # Only what the model answers, but for the boxes and scores that nearly all have.
    more = {"labels differing": "labels_differing", "segments differing": "segments_differing"}
    more = {title: key for title, key in more.items() if any(r[key] for r in record["differences"])}
    columns = ("size", "found", "boxes px", "scores", "masks differing", "keypoints px", *more)
    for column in columns:
        table.add_column(column, justify="right")
    for row in record["differences"]:
        table.add_row(
            escape(row["image"]),
            f"{row['height']}x{row['width']}",
            str(row["detections"]),
            f"{row['box_px']:.2g}",
            f"{row['score']:.2g}",
            _masks_differing(row),
            f"{row['keypoint_px']:.2g}",
            *(str(row[key]) for key in more.values()),
        )
    console.print(table)
    if record.get("refused_by_detectron2"):
        refused = ", ".join(record["refused_by_detectron2"])
        console.print(f"Eager detectron2 itself cannot run this model on: {refused}")
    for count in record["not_reached"]:
        instances = "instance" if count == "one" else "instances"
        exactly = "" if count.startswith("more than") else "exactly "
        console.print(f"No image was found on which this model has {exactly}{count} {instances}.")
    print_winograd(record.get("winograd"))
    for place in record.get("traced_constants", ()):  # older archives have none
        console.print(
            f"[yellow]Doubt:[/] the trace made a constant of what depends on the image, at "
            f"{escape(place)}. The images above agree; verify on images of your own as well: "
            "`d2serve verify X.mar --images DIR`.",
            soft_wrap=True,
            highlight=False,
        )


def print_winograd(record: Any) -> None:
    """What the export found with Winograd's convolutions; nothing of programs without them."""
    if record is None:
        return
    if record["within_bounds"]:
        said = "within the same bounds; `convolution: auto` takes them where they are faster"
        rows = record["differences"]
        said += (
            f" (at most {max(row['box_px'] for row in rows):.2g} px, "
            f"{max(row['score'] for row in rows):.2g} of a score)"
        )
    elif record["within_bounds"] is None:
        said = f"not tried, so `convolution: auto` takes none: {record['note']}"
    else:
        said = f"out of bounds, so `convolution: auto` takes none: {record['note']}"
    console.print(f"With Winograd's convolutions: {escape(said)}.", soft_wrap=True, highlight=False)


def _masks_differing(row: dict[str, Any]) -> str:
    count = str(row["masks_differing"])
    return count if row["mask_iou"] == 1 else f"{count}, IoU {row['mask_iou']:.5f}"


def print_accuracy(spec: ModelSpec) -> None:
    if not spec.accuracy:
        return
    accuracy = spec.accuracy
    console.print(
        f"The record above is of the fp32 program. {spec.precision} ({accuracy['how']}) was judged "
        f"by its AP on {accuracy['images']} images of {accuracy['dataset']}; "
        f"{accuracy['max_ap_drop']:g} points were allowed:",
        highlight=False,
    )
    print_scores(accuracy["fp32"], accuracy[spec.precision], ("fp32", spec.precision))


def print_scores(
    first: dict[str, dict[str, float]],
    second: dict[str, dict[str, float]],
    sides: tuple[str, str] = ("eager detectron2", "the .mar"),
) -> None:
    table = Table(title="COCO AP by detectron2's COCOEvaluator", title_justify="left")
    for column in ("task", "metric", *sides, "difference"):
        table.add_column(column, justify="left" if column in ("task", "metric") else "right")
    for task, metrics in first.items():
        for metric, value in metrics.items():
            got = second[task].get(metric, float("nan"))  # of nothing that was found
            table.add_row(task, metric, f"{value:.3f}", f"{got:.3f}", f"{got - value:+.3f}")
    console.print(table)
