"""Output to a client, with backpressure."""

import asyncio
from collections.abc import Callable


class Output:
    """Writes to a client's transport. asyncio buffers without a limit, so write only while `is_writable`."""

    __slots__ = ("_blocked", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._blocked: asyncio.Future[None] | None = None

    @property
    def is_writable(self) -> bool:
        """Whether the client has received most of the data."""
        return self._blocked is None

    def write(self, data: bytes) -> None:
        """Send the data, or queue it if the client does not accept it."""
        if not self._transport.is_closing():
            self._transport.write(data)

    def when_writable(self, callback: Callable[[object], None]) -> None:
        """Call `callback`, with an unused argument, when the client accepts data again or has disconnected."""
        assert self._blocked is not None
        self._blocked.add_done_callback(callback)

    async def drain(self) -> None:
        """Wait until the client has received most of the data."""
        if self._blocked is not None:
            # Shielded, since others may wait for it when this task is cancelled.
            await asyncio.shield(self._blocked)

    def pause(self) -> None:
        """The client does not accept more data."""
        if self._blocked is None:
            self._blocked = asyncio.get_running_loop().create_future()

    def resume(self) -> None:
        """The client accepts data again, or has disconnected."""
        blocked, self._blocked = self._blocked, None
        if blocked is not None:
            blocked.set_result(None)
