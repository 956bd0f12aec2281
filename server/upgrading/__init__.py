"""Puts a new version of a model in the place of the one that answers, while requests come.

newcomer, checking -> steps
"""
