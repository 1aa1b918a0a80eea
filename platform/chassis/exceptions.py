"""What an exception says of itself, whatever it is: a handler may raise anything."""

MOST_READ = 20_000
"""Characters of a message, or of a traceback, that are looked at for personal data: that takes a second for each megabyte."""


def message(error: BaseException) -> str:
    """The text of an exception, MOST_READ characters of it at most. Raises nothing."""
    try:
        return str(error)[:MOST_READ]
    except BaseException as another:  # noqa: BLE001  a text that ends the process, or takes all of the stack
        return f"(no text: {type(another).__name__})"
