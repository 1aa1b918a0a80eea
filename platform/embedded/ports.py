"""TCP ports on this machine: free ones that two runs at once never share, and fixed ones that are checked."""

import fcntl
import random
import socket
from typing import IO

from embedded import cache
from embedded.errors import EmbeddedError, PortTaken

HOST = "127.0.0.1"

# Below the range that systems give to outgoing connections, so that no connection of ours sits on a port we chose.
FIRST, LAST = 15_000, 32_000

_locks: list[IO[bytes]] = []
_chosen: set[int] = set()


def free(count: int) -> list[int]:
    """Ports on which nobody listens, and which no other run of ours will choose while this process lives."""
    chosen: list[int] = []
    candidates = random.sample(range(FIRST, LAST), LAST - FIRST)
    while len(chosen) < count:
        if not candidates:
            raise EmbeddedError(f"no {count} free ports between {FIRST} and {LAST}")
        port = candidates.pop()
        if port not in _chosen and _reserve(port) and is_free(port):
            chosen.append(port)
            _chosen.add(port)
    return chosen


def _reserve(port: int) -> bool:
    """Lock the byte of one shared file whose offset is the port: the lock ends with the process, and leaves nothing."""
    if not _locks:
        # One handle for the whole life of the process: closing any handle of the file would drop all of its locks.
        _locks.append((cache.home() / "ports.lock").open("ab"))
    try:
        fcntl.lockf(_locks[0], fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    return True


def is_free(port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        # As servers do; else a port would look taken for a minute after its last connection.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def listens(port: int) -> bool:
    """Whether a server accepts connections there."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


def demand(port: int, *, variable: str, purpose: str) -> int:
    """The port, if it is free. Raises PortTaken, which names it and the variable that changes it."""
    if not is_free(port):
        raise PortTaken(
            f"port {port}, wanted for {purpose}, is taken by another program."
            f" Stop that program, or choose another port with {variable}, for example: {variable}={port + 10} make up"
        )
    return port
