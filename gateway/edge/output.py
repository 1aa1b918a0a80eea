"""The way to a client: what is written, and whether the client takes it."""

import asyncio
from collections.abc import Callable


class Output:
    """Writes to a client's transport. asyncio holds what the client does not take, without a bound: do not write then."""

    __slots__ = ("_blocked", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._blocked: asyncio.Future[None] | None = None

    @property
    def is_writable(self) -> bool:
        """Whether the client has taken most of what was written."""
        return self._blocked is None

    def write(self, data: bytes) -> None:
        """Send, or queue what the client does not take."""
        if not self._transport.is_closing():
            self._transport.write(data)

    def when_writable(self, callback: Callable[[object], None]) -> None:
        """Call `callback` (with nothing of use) when the client takes what is written, or has left: soon."""
        assert self._blocked is not None
        self._blocked.add_done_callback(callback)

    async def drain(self) -> None:
        """Wait until the client has taken most of what was written."""
        if self._blocked is not None:
            # Others may wait for it too, when whoever waits here is cancelled.
            await asyncio.shield(self._blocked)

    def pause(self) -> None:
        """The client does not take what we write."""
        if self._blocked is None:
            self._blocked = asyncio.get_running_loop().create_future()

    def resume(self) -> None:
        """It does again, or has left."""
        blocked, self._blocked = self._blocked, None
        if blocked is not None:
            blocked.set_result(None)
