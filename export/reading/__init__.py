"""What the user has: configs, weights, class names, the family of the model."""
