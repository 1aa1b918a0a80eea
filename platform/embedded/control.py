"""The control socket of `make up`, by which the console asks for failures: one line of JSON for a request and its response.

A request is `{"action": "freeze", "target": "orders-consume", "seconds": 10}`. The actions are `list`, `topics`, `freeze`,
`slow`, `resume`, `kill`, `visit`, which has no target, and `poison`, which has `topic` and `flaw` instead. The response is
`{"ok": true, "result": …}` or `{"ok": false, "error": "…"}`.

It is a Unix socket which only the owner can open, who can send signals to all processes anyway. No page in a browser can.
"""

import asyncio
import contextlib
import json
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from embedded import poison
from embedded.errors import EmbeddedError
from embedded.faults import Faults
from embedded.local_system import LocalSystem

NAME = "control.sock"
LONGEST_PATH = 100
"""Maximum length of the path of a socket in bytes; the kernel's limit is 107, or 103 on macOS."""
LONGEST_REQUEST = 65_536
REQUEST_SECONDS = 10.0


class BadRequest(EmbeddedError):
    """A request is not understood; the message says why."""


def path_in(folder: Path) -> Path:
    """Where the socket is: in this folder, or in a new private one if the path would be too long."""
    path = folder / NAME
    if len(os.fsencode(path)) <= LONGEST_PATH:
        return path
    return Path(tempfile.mkdtemp(prefix="control-", dir="/tmp")) / NAME  # with mode 0700


@asynccontextmanager
async def offered(local: LocalSystem) -> AsyncIterator[None]:
    """Serve the socket of a system's console within the block, if there is one."""
    if local.console is None or local.console.control is None:
        yield
        return
    async with serving(local.console.control, Faults(local)):
        yield


@asynccontextmanager
async def serving(path: Path, faults: Faults) -> AsyncIterator[None]:
    """Serve the socket within the block; at its end everything continues."""
    path.unlink(missing_ok=True)  # left by a killed run
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(mask)
    server = await asyncio.start_unix_server(_Handler(faults).serve, sock=listener, limit=LONGEST_REQUEST)
    try:
        yield
    finally:
        server.close()
        path.unlink(missing_ok=True)
        if path.parent.name.startswith("control-"):
            with contextlib.suppress(OSError):
                path.parent.rmdir()
        await faults.end_all()


class _Handler:
    def __init__(self, faults: Faults) -> None:
        self._faults = faults

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        with contextlib.suppress(OSError, asyncio.CancelledError):
            try:
                async with asyncio.timeout(REQUEST_SECONDS):
                    line = await reader.readline()
                answer = {"ok": True, "result": await self._do(_parsed(line))}
            except EmbeddedError as error:
                answer = {"ok": False, "error": str(error)}
            except (TimeoutError, ValueError):  # readline raises ValueError for a line that is too long
                answer = {"ok": False, "error": "a request is one line of JSON"}
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        writer.close()

    async def _do(self, request: dict[str, Any]) -> object:
        faults, action, target = self._faults, request.get("action"), str(request.get("target", ""))
        actions: dict[object, Callable[[], object]] = {
            "list": faults.describe,
            "topics": lambda: asyncio.to_thread(_poisonable, faults.servers),
            "freeze": lambda: faults.freeze(target, _seconds(request)),
            "slow": lambda: faults.slow(target, _seconds(request)),
            "resume": lambda: faults.resume(target),
            "kill": lambda: faults.kill(target),
            "visit": lambda: faults.visit(_seconds(request)),
            "poison": lambda: faults.poison(str(request.get("topic", "")), str(request.get("flaw", poison.UNREADABLE))),
        }
        if not isinstance(action, str) or action not in actions:
            raise BadRequest(f"the action must be one of {', '.join(map(str, actions))}")
        found = actions[action]()
        return await found if isinstance(found, Awaitable) else found


def _poisonable(servers: str) -> dict[str, object]:
    return {"topics": poison.topics(servers), "flaws": poison.FLAWS}


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        request = None
    if not isinstance(request, dict):
        raise BadRequest("a request is one line with a JSON object")
    return request


def _seconds(request: dict[str, Any]) -> float:
    seconds = request.get("seconds", 10)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise BadRequest("seconds must be a number")
    return float(seconds)
