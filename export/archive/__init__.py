"""The .mar file: put together, installed, opened."""
