"""A run as text: first whether the targets are met, and on what; then what the figures rest on."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from benchmarks.report import part_tables, side_tables
from benchmarks.report.plot import save_plot
from benchmarks.report.targets import judge
from benchmarks.served.sides import SIDES
from benchmarks.serving.long_run import first_by_again
from benchmarks.serving.results import BenchResults
from benchmarks.shared.table import Table, size, spread


def tables(results: BenchResults) -> list[Table]:
    """All tables of a run that have rows."""
    all_of_them = [
        side_tables.summary(results),
        targets(results),
        side_tables.winograd(results),
        side_tables.throughput(results),
        side_tables.latency(results),
        side_tables.forward(results),
        side_tables.outside(results),
        mask_encoders(results),
        side_tables.cold_start(results),
        side_tables.memory(results),
        long_runs(results),
        part_tables.parts(results),
        part_tables.layers(results),
        agreement(results),
        side_tables.probes(results),
        steps(results),
    ]
    return [table for table in all_of_them if table.rows]


def save(results: BenchResults, folder: Path) -> None:
    """Write results.json, results.md and results.png."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(results.to_json(), encoding="utf-8")
    (folder / "results.md").write_text(as_markdown(results), encoding="utf-8")
    save_plot(results, folder / "results.png")


def show(results: BenchResults, console: Console) -> None:
    """Print the tables on a terminal."""
    for line in facts(results):
        console.print(line, highlight=False)
    for table in tables(results):
        console.print(table.for_terminal())


def as_markdown(results: BenchResults) -> str:
    """The text of results.md."""
    parts = ["# Results\n", *(f"- {line}" for line in facts(results)), ""]
    parts += [table.as_markdown() for table in tables(results)]
    parts.append("![The same figures as bars](results.png)\n")
    return "\n".join(parts)


def facts(results: BenchResults) -> list[str]:
    """On what, with what and on which work the run was made."""
    machine, plan, work = results.machine, results.plan, results.workload
    versions = ", ".join(f"{name} {number}" for name, number in machine.versions.items())
    box_height, box_width = work.median_box
    return [
        f"{results.date}, {machine.cpu}, {machine.cores} cores, {machine.memory_gib:g} GiB, "
        f"{machine.system}; the run took {results.seconds / 60:.1f} minutes",
        versions,
        f"{plan.zoo_name}, random weights; JPEG of {size(plan.picture_size)} "
        f"({results.picture_bytes // 1000} kB), model input {size(plan.input_size)}, "
        f"{results.model_operations / 2e9:.1f} GMACs",
        f"{work.detections} instances an answer; the median box is "
        f"{box_width:.0f} x {box_height:.0f} pixels, the median mask has "
        f"{work.median_mask_pixels:.0f} pixels and {work.median_rle_bytes:.0f} bytes of RLE",
        f"Winograd's convolution: {results.winograd[-1]}"
        if results.winograd
        else "no native code of kernels/ here: every convolution is direct",
        *(f"{SIDES[name].label} was left out: {why}" for name, why in results.left_out.items()),
    ]


def targets(results: BenchResults) -> Table:
    """Each target, met or missed."""
    return Table(
        "Targets",
        "Median (lowest to highest). Ratios are to the eager handler, but where another is named.",
        ("figure", "target", "measured", "", "on", "reason"),
        tuple(
            (
                each.figure,
                each.target,
                spread(each.measured, each.digits),
                "met" if each.is_met else "**missed**",
                each.side,
                each.reason,
            )
            for each in judge(results)
        ),
    )


def mask_encoders(results: BenchResults) -> Table:
    """Ours and detectron2's on the same masks."""
    return Table(
        "Masks pasted and encoded as RLE, milliseconds in one thread",
        f"All masks into {size(results.plan.picture_size)}, by paste_masks_in_image and "
        "pycocotools and by d2serve.handlers.outputs.masks in turns. The random model's masks are "
        "as ragged as masks can be, the trained model's look like objects.",
        ("masks of the", "masks", "runs a mask", "detectron2", "d2serve", "ratio", "identical"),
        tuple(
            (
                whose,
                str(timing.masks),
                f"{timing.runs:.0f}",
                spread(timing.theirs, 0),
                spread(timing.ours, 1),
                spread(timing.share, 3),
                str(timing.identical),
            )
            for whose, timing in results.mask_encoders.items()
        ),
    )


def long_runs(results: BenchResults) -> Table:
    """Memory over many requests, and images of many sizes."""
    plan = results.plan
    return Table(
        "Many requests and many image sizes, small trained model",
        f"p99/p50: of the latencies of a fresh worker's requests of {plan.sizes} sizes, each seen "
        "first, per pixel of the model's input; beside it the same not per pixel, and of the same "
        f"images again, {plan.sizes_between} sizes later. First by again: p99 per pixel of the "
        f"first visits by that of the second. Median of {plan.fresh_workers} fresh workers. None "
        "new: the same of a worker that had answered all these sizes before, so what is not 1 is "
        "noise. RSS in MiB.",
        (
            "side",
            "p99/p50 per pixel",
            "p99/p50",
            "per pixel, again",
            "p99, first by again",
            "none new",
            f"RSS after {plan.few_requests}",
            f"after {plan.many_requests}",
            "ratio",
        ),
        tuple(
            (
                SIDES[name].label,
                spread(run.spread, 2),
                spread(run.plain_spread, 2),
                spread(run.again_spread, 2),
                spread(first_by_again(run.fresh), 2),
                spread(first_by_again(run.known), 2),
                f"{run.rss_few:.0f}",
                f"{run.rss_many:.0f}",
                f"{run.growth:.3f}",
            )
            for name, run in results.long_runs.items()
        ),
    )


def agreement(results: BenchResults) -> Table:
    """How far each side's answer is from eager's."""
    return Table(
        "Agreement with eager detectron2's answer",
        "Instances of eager detectron2's answer that are found in the side's: of the same class, "
        "with boxes overlapping by half. Within bounds: box, score and mask as an export is held "
        "to. Differences over those found: median, and the worst.",
        ("side", "expected", "found", "within bounds", "box, px", "score", "mask IoU"),
        tuple(
            (
                SIDES[name].label,
                str(found.expected),
                str(found.found),
                str(found.within_bounds),
                f"{found.box_px.value:.2g}, {found.box_px.high:.2g}",
                f"{found.score.value:.2g}, {found.score.high:.2g}",
                f"{found.mask_iou.value:.4f}, {found.mask_iou.low:.4f}",
            )
            for name, side in results.sides.items()
            if (found := side.agreement) is not None
        ),
    )


def steps(results: BenchResults) -> Table:
    """Where the time of the run went."""
    return Table(
        "The run itself, seconds",
        "In this order.",
        ("step", "seconds"),
        tuple((name, f"{seconds:.0f}") for name, seconds in results.steps.items()),
    )
