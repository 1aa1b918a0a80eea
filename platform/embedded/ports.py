"""TCP ports on this machine: free ports, never shared by concurrent runs, and fixed ports that are checked."""

import fcntl
import random
import socket
from collections import Counter
from collections.abc import Mapping
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


def require_free(required: Mapping[str, tuple[str, int]], command: str = "make up") -> None:
    """Check that every port is free and required only once. `required` maps a purpose to a variable and its port.

    Raises PortTaken, which names every port that is not, and the command with free ones in their variables.
    """
    taken = {purpose: port for purpose, (_, port) in required.items() if not is_free(port)}
    used = Counter(port for _, port in required.values())
    shared = {purpose: port for purpose, (_, port) in required.items() if used[port] > 1 and purpose not in taken}
    if not taken and not shared:
        return
    problems = [
        *(f"port {port}, required for {purpose}, is in use by another program" for purpose, port in taken.items()),
        *(
            f"port {port}, required for {purpose}, is also required for another purpose"
            for purpose, port in shared.items()
        ),
    ]
    variables = [required[purpose][0] for purpose in (*taken, *shared)]
    example = " ".join(f"{variable}={port}" for variable, port in zip(variables, free(len(variables)), strict=True))
    raise PortTaken(
        "\n  ".join(["", *problems]) + f"\nStop the other program, or choose other ports: {example} {command}"
    )
