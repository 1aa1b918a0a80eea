"""`python -I docker/healthcheck.py live|ready`: exit 0 when the process of this container says so.

Web processes have a port for this alone, which answers whatever clients do; others are asked on their own.
Only the standard library's smallest parts: this runs every few seconds.
"""

import socket
import sys

PORTS = (8001, 8000)
SECONDS = 3.0


def answers(probe: str, *ports: int) -> bool:
    """Whether /health/PROBE is answered with 200, on the first of these ports that is listened on."""
    request = f"GET /health/{probe} HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    for port in ports or PORTS:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as connection:
                connection.sendall(request.encode())
                status = connection.makefile("rb").readline().split()
        except ConnectionRefusedError:
            continue
        except OSError:
            return False
        return len(status) > 1 and status[1] == b"200"
    return False


if __name__ == "__main__":
    sys.exit(not answers(sys.argv[1], *map(int, sys.argv[2:])))
