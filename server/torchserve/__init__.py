"""A real TorchServe as a child process."""
