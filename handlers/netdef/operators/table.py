"""Every operator that can be run, by Caffe2's name of it."""

from __future__ import annotations

from collections.abc import Mapping

from d2serve.handlers.netdef.operators.arithmetic import ARITHMETIC
from d2serve.handlers.netdef.operators.detection import DETECTION
from d2serve.handlers.netdef.operators.layers import LAYERS
from d2serve.handlers.netdef.operators.making import Maker
from d2serve.handlers.netdef.operators.shapes import FILLS, SHAPES

OPERATORS: Mapping[str, Maker] = {**ARITHMETIC, **DETECTION, **FILLS, **LAYERS, **SHAPES}
