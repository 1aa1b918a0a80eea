"""PostgreSQL, Kafka and the system's processes on one machine that needs nothing but Python.

Used by `make demo`, `make up`, the tests and the benchmarks. No service imports it, and it is not in the image.
"""
