"""What the C++ program costs beside the Python library: ``make bench-cpp``."""
