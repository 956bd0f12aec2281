"""How fast archives answer on this machine: by runtime, precision, workers and threads."""
