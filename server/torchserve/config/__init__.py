"""TorchServe's settings: read, checked and written."""
