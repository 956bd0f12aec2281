"""From an eager model to a program's files; one module for each way."""
