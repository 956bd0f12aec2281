"""From the record of a run to targets, tables and a picture."""
