"""A plain FastAPI around DefaultPredictor: the other thing that people do today.

One process, one model, one endpoint that takes the image's bytes and answers the same JSON as the
eager handler, by the same functions. The endpoint is ``async`` and computes in it, as people write
it: a process answers one request at a time, and its threads are the model's.

It ends by itself when its standard input, a pipe that the benchmark holds, is closed.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Request, Response

from benchmarks.served.eager_handler import decode_bgr, describe, encode_masks, load_predictor


def make_app(folder: Path) -> FastAPI:
    """The application; the model is loaded before it exists, so that it is READY when it listens.

    Args:
        folder: with config.yaml and model.pth.
    """
    predictor = load_predictor(folder)
    class_names = predictor.metadata.get("thing_classes")
    app = FastAPI()

    @app.get("/ready")
    async def ready() -> dict[str, str]:
        return {"status": "READY"}

    @app.post("/predict")
    async def predict(request: Request) -> Response:
        image = decode_bgr(await request.body())
        instances = predictor(image)["instances"].to("cpu")
        reply = describe(instances, encode_masks(instances), class_names)
        reply.update(model="fastapi", version="1.0")
        return Response(json.dumps(reply).encode(), media_type="application/json")

    return app


def main(folder: Path, port: int) -> None:
    """Serve until standard input is closed."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    uvicorn.run(make_app(folder), host="127.0.0.1", port=port, log_level="warning")


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
