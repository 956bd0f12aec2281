"""Names of classes: where they are found, and which are taken."""
