"""What several measurements need: figures with their range, the machine, a picture, a table."""
