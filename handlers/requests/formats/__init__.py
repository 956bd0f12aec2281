"""What a file is by its own bytes: which format, of what kind, and why it may not be read."""
