"""From what a model is in, to its operations: one module for each."""
