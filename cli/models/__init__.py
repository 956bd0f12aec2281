"""Commands for models and their archives: they make, show, compare and measure them."""
