"""Errors after which a client must be replaced: it is fenced, or the result of its last transaction is unknown."""


class Fenced(Exception):
    """Another process has taken this one's place: it must stop, and may start over with new clients."""


class Unsure(Fenced):
    """No other process has taken over, but the result of its last transaction is unknown: starting over resolves this."""


class Stranded(Unsure):
    """The client gets no response any more, although the brokers respond to a new one: starting over resolves this."""
