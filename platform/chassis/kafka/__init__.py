"""Kafka: clients, records, names and sizes at the broker. The only place that makes Kafka clients."""
