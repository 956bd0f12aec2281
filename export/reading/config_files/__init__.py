"""Config files: YAML, as data, LazyConfigs and pickles, each made into the one ``ModelConfig``."""
