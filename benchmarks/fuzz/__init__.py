"""A handler under mutated requests: ``make fuzz``."""
