"""Runs several management commands in one process:
`python -P platform/embedded/commands.py "migrate -v0" await-kafka topics`.

Loading a service takes most of the time of a short command, so `make demo` loads it once. DJANGO_SETTINGS_MODULE selects
the service. `await-kafka` is not a management command: it waits until the broker listens.
"""

import gc
import os
import shlex
import socket
import sys
import time
from pathlib import Path

AWAIT_KAFKA = "await-kafka"


def main() -> None:
    """Run each argument as a command, until one fails."""
    gc.set_threshold(50_000, 20, 20)  # as in manage.py
    sys.path.insert(0, str(Path.cwd()))
    from django.core.management import execute_from_command_line

    import settings  # noqa: F401  puts platform/ on the import path

    for command in sys.argv[1:]:
        if command == AWAIT_KAFKA:
            await_kafka(os.environ["KAFKA_BOOTSTRAP_SERVERS"].split(",")[0])
        else:
            execute_from_command_line(["manage.py", *shlex.split(command)])


def await_kafka(server: str) -> None:
    """Wait until the broker listens. The parent process limits the time."""
    host, port = server.rsplit(":", 1)
    while True:
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex((host, int(port))) == 0:
                return
        time.sleep(0.05)


if __name__ == "__main__":
    main()
