"""Commands for servers: they start them and keep them going."""
