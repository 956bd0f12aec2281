"""From the bytes of a request to a prepared image and its options."""
