"""Where images come from: files and folders, lists of them, and shards, here or at an address."""
