"""Programs for an event loop: forks where the system has them, and processes of their own elsewhere."""

import asyncio
import multiprocessing
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from embedded.forks import fork
from embedded.forks.fork import Fork
from embedded.processes import with_parent


class Program(Protocol):
    """What a user needs of `asyncio.subprocess.Process`."""

    @property
    def pid(self) -> int:
        """Its process id, which is that of its session too."""

    @property
    def stdout(self) -> asyncio.StreamReader | None:
        """Its output and errors."""

    @property
    def returncode(self) -> int | None:
        """Its exit status, or None while it runs."""

    async def wait(self) -> int:
        """Wait until it has ended, and return its exit status."""

    def send_signal(self, signum: int, /) -> None:
        """Send it a signal."""


async def start(argv: list[str], environment: Mapping[str, str], *, cwd: Path, limit: int) -> Program:
    """Start a program, in a session of its own, which dies with this process. Its output and errors are `stdout`.

    `argv` begins with the Python interpreter; see Fork for the forms that it may have. A line of the output has at most `limit`
    bytes.
    """
    if not fork.AVAILABLE:
        # It dies with the thread that starts it: the event loop runs in the main thread, which lasts until exit.
        return await asyncio.create_subprocess_exec(
            *with_parent(argv, environment),
            cwd=cwd,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            limit=limit,
        )
    await asyncio.to_thread(fork.prepare)
    stdout = asyncio.StreamReader(limit)
    reading, writing = multiprocessing.Pipe(duplex=False)
    with writing:
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdout), reading)
        # Nothing is awaited after this: a caller that is cancelled would leave the program behind.
        return _Forked(Fork(argv, cwd=str(cwd), env=environment, out=writing), stdout)


class _Forked:
    def __init__(self, program: Fork, stdout: asyncio.StreamReader) -> None:
        self.pid = program.pid
        self.returncode: int | None = None
        self.stdout = stdout
        self._program = program
        self._ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(program.sentinel, self._end)

    async def wait(self) -> int:
        await self._ended.wait()
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, signum: int) -> None:
        self._program.send_signal(signum)

    def _end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._program.sentinel)
        self.returncode = self._program.poll()
        self._ended.set()
