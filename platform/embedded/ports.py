"""TCP ports on this machine: free ones that two runs at once never share, and fixed ones that are checked."""

import fcntl
import random
import socket
from collections import Counter
from collections.abc import Mapping
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


def demand(wanted: Mapping[str, tuple[str, int]]) -> None:
    """Return if every port is wanted once and free. They are given by purpose, each with the variable that changes it.

    Raises PortTaken, which names all others, and a command that chooses free ones.
    """
    taken = {purpose: port for purpose, (_, port) in wanted.items() if not is_free(port)}
    used = Counter(port for _, port in wanted.values())
    shared = {purpose: port for purpose, (_, port) in wanted.items() if used[port] > 1 and purpose not in taken}
    if not taken and not shared:
        return
    problems = [
        *(f"port {port}, wanted for {purpose}, is taken by another program" for purpose, port in taken.items()),
        *(f"port {port}, wanted for {purpose}, is wanted for something else too" for purpose, port in shared.items()),
    ]
    variables = [wanted[purpose][0] for purpose in (*taken, *shared)]
    example = " ".join(f"{variable}={port}" for variable, port in zip(variables, free(len(variables)), strict=True))
    raise PortTaken(
        "\n  ".join(["", *problems]) + f"\nStop the other program, or choose another port: {example} make up"
    )
