"""Start, watch and sweep servers of archives."""
