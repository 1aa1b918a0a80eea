"""Whether a process lives and is ready to work, said to load balancers, supervisors and people."""
