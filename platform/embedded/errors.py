"""What can go wrong with the embedded system; each message is meant for the person at the terminal."""


class EmbeddedError(Exception):
    """Something that the embedded system needs is missing or has failed; the message says what, and what to do."""


class PortTaken(EmbeddedError):
    """A fixed port is in use by another program; the message names the port and the variable that changes it."""


class Corrupt(EmbeddedError):
    """A downloaded file is not the one that was locked."""


class NotReady(EmbeddedError):
    """A process did not become ready in time, or died; the message ends with its last log lines."""
