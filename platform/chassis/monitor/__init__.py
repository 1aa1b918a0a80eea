"""Measures Kafka from outside of the services: the lag and the members of consumer groups, and the dead-letter topics."""
