"""Comparing a service's tables with the events on Kafka, and republishing missing events."""
