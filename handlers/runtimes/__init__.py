"""Programs as named arrays in, named arrays out; one module for each runtime."""
