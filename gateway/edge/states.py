"""The states of a client's connection."""

from enum import Enum, auto


class State(Enum):
    """The state of a connection. Except in WORK and CLOSED, it waits for the client."""

    IDLE = auto()
    """No byte of a request has been received."""
    HEAD = auto()
    """A part of a head has been received."""
    BODY = auto()
    """A head is complete, its body is not."""
    WORK = auto()
    """A request is complete and being processed."""
    FLUSH = auto()
    """The client has to read the response before the next request is processed."""
    DISCARD = auto()
    """The response was sent before the body was complete; the rest of the body is discarded."""
    CLOSED = auto()
    """The connection is closed; received data is discarded."""
