"""How many records to request from the Kafka client at a time, so that memory is bounded in bytes as well as in records."""

FIRST = 16
"""The size of the first chunk, in records, when the size of a record is not known yet."""


class Intake:
    """Computes chunk sizes from the sizes of recent records; `most` is the maximum number of bytes in memory.

    A chunk exceeds the limit only if records suddenly become larger; the queue of the Kafka client, which is limited in
    bytes, limits that too.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._largest = most // FIRST
        self._held = 0

    def begin(self, held: int) -> None:
        """Start a fetch while `held` bytes are in memory."""
        self._held = held

    def received(self, size: int) -> None:
        """Note the size of a received record. A larger one counts at once, and its influence decays slowly."""
        self._held += size
        self._largest = max(size, self._largest - self._largest // 64)

    def chunk(self, room: int) -> int:
        """How many records to request next, at most `room`; 0 for none."""
        free = self._most - self._held
        if room <= 0 or free <= 0:
            return 0
        return min(room, max(1, free // max(1, self._largest)))
