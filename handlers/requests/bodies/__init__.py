"""The body of a request before anything in it is judged: unpacked, and parsed where it is JSON."""
