"""What the services are measured against: the same reads without any of the system. Each is one file, run by gunicorn."""
