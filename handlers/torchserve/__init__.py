"""Everything that knows TorchServe; nothing else in ``handlers`` does."""
