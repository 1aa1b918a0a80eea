"""Server-sent events, and how the console ends while some are open."""

import threading

import pytest

from console import sse, system


@pytest.fixture
def console():
    system.current.cache_clear()
    yield system.current()
    system.current.cache_clear()


def waiting_for_stories(console):
    seen = console.stories.changes
    while True:
        seen = console.stories.wait(seen, 60)
        yield sse.event("changed")


def test_an_event_may_have_several_lines():
    assert sse.event("<p>\n</p>", "story") == "event: story\ndata: <p>\ndata: </p>\n\n"


def test_a_stream_tells_the_browser_when_to_return_and_is_not_kept(console):
    response = sse.stream(iter([sse.event("x")]))
    assert (response["Content-Type"], response["Cache-Control"]) == ("text/event-stream", "no-store")
    assert b"".join(response.streaming_content) == b"retry: 1000\n\ndata: x\n\n"


def waiting_for_polls(console):
    while True:
        console.processes.wait(0, 60)
        yield sse.event("polled")


@pytest.mark.parametrize("events", [waiting_for_stories, waiting_for_polls])
def test_it_ends_when_the_console_stops(console, events):
    read: list[bytes] = []
    response = sse.stream(events(console))
    thread = threading.Thread(target=lambda: read.extend(response.streaming_content))
    thread.start()
    console.stop()
    thread.join(30)
    assert not thread.is_alive()
    assert read == [b"retry: 1000\n\n"]
