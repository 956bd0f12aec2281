"""What `d2serve batch` costs beside a plain loop, and what each node of a cluster adds."""
