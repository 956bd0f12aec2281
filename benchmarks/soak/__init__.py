"""``make soak``: a server under mixed load for minutes or hours, and what of it grows."""
