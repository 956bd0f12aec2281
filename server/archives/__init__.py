"""The archives that a server serves: what they hold, where they lie, and whether they are listed.

digests -> model_archives -> contents
"""
