"""What lower precision costs in AP: ``make precision``."""
