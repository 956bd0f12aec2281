"""The check against eager detectron2, and the scores of both sides."""
