"""What a server answers, as typed values."""
