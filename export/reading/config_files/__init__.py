"""Config files as data: YAML and pickled configs, read without running what they may bring."""
