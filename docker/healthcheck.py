"""`python -I docker/healthcheck.py live|ready`: exit 0 when the process on port 8000 of this container says so.

Only the standard library's smallest parts: this runs every few seconds.
"""

import socket
import sys

PORT = 8000
SECONDS = 3.0


def answers(probe: str, port: int = PORT) -> bool:
    """Whether /health/PROBE is answered with 200."""
    request = f"GET /health/{probe} HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as connection:
            connection.sendall(request.encode())
            status = connection.makefile("rb").readline().split()
    except OSError:
        return False
    return len(status) > 1 and status[1] == b"200"


if __name__ == "__main__":
    sys.exit(not answers(sys.argv[1], *map(int, sys.argv[2:])))
