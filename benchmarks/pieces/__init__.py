"""Where the time of one request goes, measured in one process, without a server."""
