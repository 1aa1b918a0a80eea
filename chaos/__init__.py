"""Runs the whole replicated system on real engines, injects faults by a seeded schedule, and accounts for every event.

It trusts nothing that the system reports about itself: no logs, no metrics, no exit status. It relies only on the
responses that clients received, the rows of both databases, and the committed records on Kafka.
"""
