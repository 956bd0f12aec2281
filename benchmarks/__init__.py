"""Side-by-side measurements of d2serve against what people serve detectron2 with today."""
