"""A process with a given behaviour: `python -m tests.embedded.fake BEHAVIOUR PORT`."""

import os
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer


class Handler(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(b"database: down")

    def log_message(self, *args: object) -> None:
        """Nothing."""


def main(behaviour: str, port: int) -> None:
    print(f"{behaviour} of {os.environ.get('WHO', 'nobody')}", flush=True)
    if behaviour == "dies":
        sys.exit(3)
    if behaviour == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if behaviour == "long":
        print("x" * 3_000_000, flush=True)
        print("after it", flush=True)
    if behaviour == "silent":
        time.sleep(60)
    Handler.status = 503 if behaviour == "unready" else 200
    HTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
