"""The errors of the embedded system. Their messages are shown at the terminal."""


class EmbeddedError(Exception):
    """Something that the embedded system needs is missing or has failed; the message states what, and what to do."""


class PortTaken(EmbeddedError):
    """A fixed port is in use by another program; the message names the port and the variable that changes it."""


class Corrupt(EmbeddedError):
    """The hash of a downloaded file differs from the locked one."""


class NotReady(EmbeddedError):
    """A process exited or did not become ready in time; the message ends with its last log lines."""
