"""Where two answers to an image differ: which instance, which field, by how much, and a picture."""
