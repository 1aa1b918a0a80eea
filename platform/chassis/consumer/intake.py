"""How many records to take from the Kafka client at a time, so that what is in memory is bounded in bytes as in numbers."""

FIRST = 16
"""Records of the first chunk, when nothing is known of their size."""


class Intake:
    """Sizes of chunks, by the sizes of the records that came last; `most` are the bytes that may be in hand.

    A chunk may bring more than is free only where records become larger all at once; the Kafka client's own queue, which is
    bounded in bytes, bounds that too.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._largest = most // FIRST
        self._held = 0

    def begin(self, held: int) -> None:
        """A fetch begins with so many bytes in hand."""
        self._held = held

    def saw(self, size: int) -> None:
        """A record of so many bytes came: larger ones count at once, and are forgotten slowly."""
        self._held += size
        self._largest = max(size, self._largest - self._largest // 64)

    def chunk(self, room: int) -> int:
        """How many records to ask for next where there is room for `room`; 0 is none."""
        free = self._most - self._held
        if room <= 0 or free <= 0:
            return 0
        return min(room, max(1, free // max(1, self._largest)))
