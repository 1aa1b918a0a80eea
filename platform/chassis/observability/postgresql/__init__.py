"""Django's database backend for PostgreSQL, with the metrics of its connections."""
