"""Health checks: whether a process is live and ready, for load balancers, supervisors and operators."""
