"""What exporter and server agree on: ``model_spec.json`` and the limits in it."""
