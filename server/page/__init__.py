"""A page on which to try a served model in a browser."""
