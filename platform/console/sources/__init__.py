"""What the console reads: log files, topics, the processes' health and metrics, and the services' endpoints for staff."""
