"""Whether programs on a GPU answer as eager detectron2 does there, and how fast: `make gpu`."""
