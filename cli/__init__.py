"""The ``d2serve`` command: thin, every decision lies in the other rooms."""
