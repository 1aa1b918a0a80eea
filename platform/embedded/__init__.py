"""PostgreSQL, Kafka and the system's processes on one machine, with nothing installed but Python.

For `make demo`, `make up`, the tests and the benchmarks. No service imports it, and it is not in the image.
"""
