"""The whole way once: export a trained example model, serve it, ask it over HTTP and over gRPC.

`make demo` runs this. It prints each step as the command or call that a user would type, and writes
demo.png. What is done already is not done again.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.table import Table

from d2serve.client.drawing import draw
from d2serve.client.errors import ClientError
from d2serve.client.results.prediction import Prediction
from d2serve.server.torchserve.process import TorchServeProcess

NAME = "shapes_mask_rcnn"
CONFIG = Path("examples/shapes/models/mask_rcnn_fpn.yaml")
WEIGHTS = CONFIG.with_suffix(".pth")
STORE = Path("model_store")
ARCHIVE = STORE / f"{NAME}.mar"
IMAGE = Path("examples/shapes/sample.jpg")
PICTURE = Path("demo.png")

console = Console()


def export_once() -> None:
    """Export the example model, unless an archive newer than its weights is there."""
    sources = (CONFIG, WEIGHTS, *Path("handlers").rglob("*.py"))
    if ARCHIVE.is_file() and all(
        ARCHIVE.stat().st_mtime > source.stat().st_mtime for source in sources
    ):
        console.print(f"{ARCHIVE} is there already")
        return
    words = [
        *("export", "--config-file", str(CONFIG), "--export-method", "tracing", "--name", NAME),
        *("--import", "examples.shapes.dataset"),
    ]
    console.print(f"[bold]$ d2serve {' '.join(words)}")
    d2serve = Path(sys.executable).with_name("d2serve")
    subprocess.run([str(d2serve), *words], check=True)


def print_detections(prediction: Prediction) -> None:
    """The answer as a table."""
    table = Table(title=f"{IMAGE.name}, {prediction.width} x {prediction.height}")
    for column in ("category", "score", "bbox (x0, y0, x1, y1)", "mask pixels"):
        table.add_column(column, justify="left" if column == "category" else "right")
    for instance in prediction.instances:
        table.add_row(
            instance.category_name or str(instance.category_id),
            f"{instance.score:.3f}",
            ", ".join(f"{edge:.1f}" for edge in instance.bbox),
            str(int(instance.mask().sum())),
        )
    console.print(table)


def main() -> None:
    """Run the demo; exits with 1 and a sentence where something is missing."""
    try:
        export_once()
        with (
            console.status("Starting TorchServe ...") as status,
            TorchServeProcess(
                {NAME: ARCHIVE}, on_progress=lambda text: status.update(f"TorchServe: {text}")
            ) as server,
        ):
            status.stop()
            console.print(f"TorchServe is ready at {server.inference_address}")
            over_http = server.http.predict(NAME, IMAGE)
            over_grpc = server.grpc.predict(NAME, IMAGE)
        print_detections(over_http)
        same = over_http.instances == over_grpc.instances
        console.print(f"HTTP and gRPC answers are {'the same' if same else 'DIFFERENT'}")
        draw(Image.open(IMAGE), over_http, min_score=0.5).save(PICTURE)
        console.print(f"Wrote {PICTURE}; the server is stopped")
    except (ClientError, subprocess.CalledProcessError) as error:
        console.print(f"[red]The demo failed:[/] {error}")
        sys.exit(1)
    if not same:
        sys.exit(1)


if __name__ == "__main__":
    main()
