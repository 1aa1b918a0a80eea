"""TCP ports on this machine: free ports, never shared by concurrent runs, and fixed ports that are checked."""

import fcntl
import random
import socket
from typing import IO

from embedded import cache
from embedded.errors import EmbeddedError, PortTaken

HOST = "127.0.0.1"

# Below the range of ephemeral ports, so that no outgoing connection uses a chosen port.
FIRST, LAST = 15_000, 32_000

_locks: list[IO[bytes]] = []
_chosen: set[int] = set()


def free(count: int) -> list[int]:
    """Free ports, which no other run chooses while this process runs."""
    chosen: list[int] = []
    candidates = random.sample(range(FIRST, LAST), LAST - FIRST)
    while len(chosen) < count:
        if not candidates:
            raise EmbeddedError(f"fewer than {count} free ports between {FIRST} and {LAST}")
        port = candidates.pop()
        if port not in _chosen and _reserve(port) and is_free(port):
            chosen.append(port)
            _chosen.add(port)
    return chosen


def _reserve(port: int) -> bool:
    """Lock the byte at this offset of a shared file. The kernel releases the lock when the process exits."""
    if not _locks:
        # One handle for the life of the process: closing any handle of the file would release all of its locks.
        _locks.append((cache.home() / "ports.lock").open("ab"))
    try:
        fcntl.lockf(_locks[0], fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    return True


def is_free(port: int) -> bool:
    """Whether a server could listen on the port now."""
    with socket.socket() as probe:
        # As servers do; otherwise a port would appear taken for a minute after its last connection.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def listens(port: int) -> bool:
    """Whether a server accepts connections on the port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


def require_free(port: int, *, variable: str, purpose: str) -> int:
    """Return the port if it is free. Raises PortTaken, which names the port and the variable that changes it."""
    if not is_free(port):
        raise PortTaken(
            f"port {port}, required for {purpose}, is in use by another program."
            f" Stop that program, or choose another port with {variable}, for example: {variable}={port + 10} make up"
        )
    return port
