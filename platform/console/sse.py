"""Server-sent events: a response that stays open, and sends what changes."""

from collections.abc import Iterator

from django.http import StreamingHttpResponse

from console import system

BEAT_SECONDS = 5.0
"""A stream sends at least this often, so that one whose browser has gone is noticed, and ends."""


def event(data: str, name: str = "") -> str:
    """An event in the format of the stream; `data` may have several lines."""
    head = f"event: {name}\n" if name else ""
    return head + "".join(f"data: {line}\n" for line in data.split("\n")) + "\n"


BEAT = ": still here\n\n"
"""What to send if there is nothing to say for BEAT_SECONDS."""


def stream(events: Iterator[str]) -> StreamingHttpResponse:
    """The response with these events, each made by `event`, or BEAT.

    Each open stream holds a thread of the server. The iterator must yield at least every BEAT_SECONDS, and it is closed when
    the browser has gone or the console stops.
    """
    response = StreamingHttpResponse(_until_end(events), content_type="text/event-stream")
    response["Cache-Control"] = "no-store"
    response["X-Accel-Buffering"] = "no"
    return response


def _until_end(events: Iterator[str]) -> Iterator[str]:
    ended = system.current().ended
    yield "retry: 1000\n\n"
    for one in events:
        if ended.is_set():
            return
        yield one
