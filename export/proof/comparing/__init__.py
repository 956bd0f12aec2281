"""How far two answers to one image are apart, field by field."""
