"""The text of any exception, since a handler may raise anything."""

MOST_READ = 20_000
"""Maximum number of characters of a message or a traceback that are searched for personal data: a megabyte takes a second."""


def message(error: BaseException) -> str:
    """The text of an exception, at most MOST_READ characters. Raises nothing."""
    try:
        return str(error)[:MOST_READ]
    except BaseException as another:  # noqa: BLE001  __str__ may raise SystemExit, or exhaust the stack
        return f"(no text: {type(another).__name__})"
