"""What metrics, ids and logging cost a request: ``make metrics-overhead``."""
