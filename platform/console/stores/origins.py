"""The processes that the kept spans come from. There are few, unless a client makes them up."""

import sys

from console.stores.otlp import Origin

OVERHEAD = 500
"""Bytes that Python needs for an origin besides its texts."""


class Origins:
    """Origins by number, each with the number of traces that use it; without any it is dropped. Not safe for several threads."""

    def __init__(self) -> None:
        self.bytes = 0
        """How many bytes they take."""
        self._numbers: dict[Origin, int] = {}
        self._origins: dict[int, Origin] = {}
        self._uses: dict[int, int] = {}
        self._last = 0

    def __len__(self) -> int:
        """How many there are."""
        return len(self._numbers)

    def __getitem__(self, number: int) -> Origin:
        """The origin with a number that is in use."""
        return self._origins[number]

    def use(self, origin: Origin, used: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
        """Its number, and the numbers that a trace uses together with it; `used` are those that it has used before."""
        number = self._numbers.get(origin)
        if number is None:
            self._last += 1
            number = self._last
            self._numbers[origin], self._origins[number], self._uses[number] = number, origin, 0
            self.bytes += _size(origin)
        if number not in used:
            self._uses[number] += 1
            used = (*used, number)
        return number, used

    def release(self, used: tuple[int, ...]) -> None:
        """A trace that has used these is dropped."""
        for number in used:
            self._uses[number] -= 1
            if not self._uses[number]:
                origin = self._origins.pop(number)
                del self._numbers[origin], self._uses[number]
                self.bytes -= _size(origin)


def _size(origin: Origin) -> int:
    return OVERHEAD + sum(map(sys.getsizeof, origin))
