"""The proof: the whole system in replicas on real engines, broken on purpose by a seeded schedule, then accounted for.

Nothing that the system says of itself is believed: not its logs, not its metrics, not its exit. What counts is what a
client was answered, what stands in both databases, and what a reader of committed records finds on Kafka.
"""
