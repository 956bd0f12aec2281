"""Which archives a server is to serve, and whether they are sound."""
