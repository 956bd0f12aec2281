"""Models of the user's own: their end, and equivalents of what their loops do."""
