"""`python -m tests.gateway.breaking PORT`: a gateway with bugs that are triggered by requests that name them.

It tests that no bug stops the process or leaks a connection; there is no known bug to test this with.
"""

import sys
from collections.abc import Callable
from typing import Any

import settings  # noqa: F401  puts platform/ on the import path

import django  # isort: skip

django.setup()

from gateway import metrics, pages, proxy, server  # noqa: E402
from gateway.access import AccessLog  # noqa: E402
from gateway.application import Gateway  # noqa: E402
from gateway.call import Call  # noqa: E402
from gateway.edge import client, connections, heads  # noqa: E402


def breaks(owner: Any, name: str, place: str, named: Callable[..., bytes]) -> None:
    """Make `owner.name` raise if the bytes that `named` returns for its arguments contain the place."""
    sound = getattr(owner, name)

    def broken(*arguments: Any, **others: Any) -> Any:
        if place.encode() in named(*arguments):
            raise RuntimeError(place)
        return sound(*arguments, **others)

    setattr(owner, name, broken)


def _target(call: Call) -> bytes:
    return call.head.target


PLACES = {
    "in-parse": (heads, "parse", lambda data: data),
    "in-accept": (Gateway, "accept", lambda _, call: _target(call)),
    "in-body": (client.Client, "_store", lambda own, _: _target(own._call)),
    "in-page": (pages.Pages, "run", lambda _, call: _target(call)),
    "in-scope": (pages, "_scope", _target),
    "in-request": (proxy.Proxy, "_request", lambda _, call: _target(call)),
    "in-fields": (proxy, "_fields", lambda call, *_: _target(call)),
    "in-refuse": (Call, "refuse", lambda call, _: _target(call)),
    "in-log": (AccessLog, "write", lambda _, __, call, ___: _target(call)),
    "in-record": (proxy.Proxy, "_record", lambda _, call: _target(call)),
    "in-expire": (Call, "expire", _target),
    "in-expired": (client.Client, "expire", lambda own: bytes(own._buffer)),
}


LEAVES = "leaves-at-once"
"""In the target of a request whose client leaves between the start of the task that answers it and its first step."""


def leave() -> None:
    """Let clients leave there."""
    sound = proxy.Proxy.start_task

    def start_task(own: proxy.Proxy, call: Call, *others: Any) -> None:
        sound(own, call, *others)
        if LEAVES.encode() in _target(call):
            call.client.abort()
            call.disconnected()

    proxy.Proxy.start_task = start_task  # type: ignore[method-assign]


if __name__ == "__main__":
    leave()
    for place, (owner, name, named) in PLACES.items():
        breaks(owner, name, place, named)
    client.HEAD_SECONDS = 0.5
    connections.TICK_SECONDS = 0.1
    assert metrics
    server.serve("127.0.0.1", int(sys.argv[1]))
