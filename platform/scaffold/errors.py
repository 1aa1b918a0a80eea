"""The error that `make service` reports."""


class ScaffoldError(Exception):
    """The service cannot be written; the message states why and what to do. Nothing of it remains in the repository."""
