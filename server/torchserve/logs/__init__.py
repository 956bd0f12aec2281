"""What TorchServe writes, and what it means."""
