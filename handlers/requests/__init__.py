"""From the bytes of a request to the input of the model and the options."""
