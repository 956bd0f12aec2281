"""The Python library as a program like ``d2serve_predict``: what a worker does, without a server.

``python -m benchmarks.cpp.python_program MODEL IMAGE ...`` prints a line of JSON for each image,
and on the standard error what each step took, in the words of ``d2serve_predict --time``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from d2serve.handlers.detector import Detector, ImageResult
from d2serve.handlers.errors import RequestError
from d2serve.handlers.outputs.records import Outputs
from d2serve.handlers.replies.encoding import encode
from d2serve.handlers.requests.images import ImageFile, read_pixels
from d2serve.handlers.requests.preprocessing import preprocess
from d2serve.handlers.timing import Stopwatch


def main(model: str, *files: str) -> None:
    with Detector.open(model) as detector:
        for file in files:
            _answer(detector, file)


def _answer(detector: Detector, file: str) -> None:
    spec, watch = detector.spec, Stopwatch()
    image = ImageFile(Path(file).read_bytes())
    pixels, converted = read_pixels(image, spec.limits, spec.image_form)
    took = {"decode": watch.lap()}
    given = preprocess(pixels, spec)
    took["preprocess"] = watch.lap()
    [result] = detector.answer([given])
    outputs = _outputs(result)
    took.update(result.seconds)
    watch.lap()
    reply = encode(outputs, spec, spec.name, "1.0", converted=converted)
    took["encode"] = watch.lap()
    sys.stdout.buffer.write(reply + b"\n")
    sys.stdout.buffer.flush()
    steps = ", ".join(f"{step} {1000 * seconds:.3f} ms" for step, seconds in took.items())
    print(f"{file}: {steps}", file=sys.stderr)


def _outputs(result: ImageResult) -> Outputs:
    if isinstance(result.outcome, RequestError):
        raise result.outcome
    return result.outcome


if __name__ == "__main__":
    main(*sys.argv[1:])
