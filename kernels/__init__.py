"""Native code that makes programs faster without changing their answers, optional everywhere.

It is installed with the package where there is a compiler, and imported by a worker only where its
model's YAML permits it: no archive depends on it.
"""
