"""Kafka: clients, records, names and sizes at the broker. The only package that creates Kafka clients."""
