"""A measured value with its range, as `d2serve bench` has it."""

from d2serve.server.measuring.figures import Figure, median_of, median_ratio, pooled_percentile

__all__ = ["Figure", "median_of", "median_ratio", "pooled_percentile"]
