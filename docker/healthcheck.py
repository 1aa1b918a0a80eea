"""`python -I docker/healthcheck.py live|ready`: exits with 0 if the process of this container is live or ready.

Web processes have a separate port for probes, which responds regardless of load; the others are probed on their own port.
It runs every few seconds, so it imports only small modules.
"""

import socket
import sys

PORTS = (8001, 8000)
SECONDS = 3.0


def responds(probe: str, *ports: int) -> bool:
    """Whether /health/PROBE returns 200, on the first of these ports that accepts connections."""
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
    sys.exit(not responds(sys.argv[1], *map(int, sys.argv[2:])))
