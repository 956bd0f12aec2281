"""Models of the user's own: what they answer, and whether what replaces their methods is equal."""
