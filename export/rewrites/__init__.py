"""Equivalents of detectron2 modules that cannot be exported as they are.

``rewrite`` says what a rewrite is, ``registry`` lists all of them, and each folder is named for the
part of a model whose rewrites it holds.
"""
