"""What ends `make service` with a message."""


class ScaffoldError(Exception):
    """The service cannot be written; the message says why, and what to do. Nothing of it remains in the repository."""
