"""What `make` installs, and how. Standard library only: nothing else is there when it runs."""
