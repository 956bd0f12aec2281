"""The operations of one forward, counted: "as fast as the machine can" needs the model's work.

torch counts the operations of every convolution and matrix product of eager detectron2's forward
on the picture that is sent, the heads on their proposals and instances included. Operators that
multiply no matrices (ROIAlign, NMS, sorting) count as nothing.
"""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.served import eager_handler
from benchmarks.served.model import SavedModel, model_input
from d2serve.handlers.requests.decoding import decode


def operations_of(saved: SavedModel, jpeg: bytes) -> float:
    """Operations of one forward: twice its multiplications with an addition."""
    predictor = eager_handler.load_predictor(saved.config.parent)
    image = model_input(predictor.cfg, decode(jpeg))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        predictor.model.inference([{"image": image}], do_postprocess=False)
    return float(counter.get_total_flops())
