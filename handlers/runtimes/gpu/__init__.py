"""What runtimes on an NVIDIA GPU need: its memory, and where engines built for it are kept."""
