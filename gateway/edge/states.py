"""Whose turn it is on a client's connection."""

from enum import Enum, auto


class State(Enum):
    """Whose turn it is on a connection."""

    IDLE = auto()
    """The client's: no byte of a request is here."""
    HEAD = auto()
    """The client's: the head of a request has begun."""
    BODY = auto()
    """The client's: a request waits for its body."""
    WORK = auto()
    """Ours: a request is whole, and is being answered."""
    FLUSH = auto()
    """The client's: it has been answered, and has to read that first."""
    DISCARD = auto()
    """The client's: it has been answered before all of its body came; the rest is read and dropped."""
    CLOSED = auto()
    """Nobody's: nothing is taken from it any more."""
