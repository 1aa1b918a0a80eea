"""Several management commands in one process: `python -P platform/embedded/commands.py "migrate -v0" await-kafka topics`.

Loading a service takes most of the time of a short command, so `make demo` loads it once. DJANGO_SETTINGS_MODULE says
which service. `await-kafka` is no management command: it waits until the broker listens.
"""

import os
import shlex
import socket
import sys
import time
from pathlib import Path

AWAIT_KAFKA = "await-kafka"


def main() -> None:
    """Run each argument as one command; the first that fails ends it."""
    sys.path.insert(0, str(Path.cwd()))
    from django.core.management import execute_from_command_line

    import settings  # noqa: F401  puts platform/ on the import path

    for command in sys.argv[1:]:
        if command == AWAIT_KAFKA:
            await_kafka(os.environ["KAFKA_BOOTSTRAP_SERVERS"].split(",")[0])
        else:
            execute_from_command_line(["manage.py", *shlex.split(command)])


def await_kafka(server: str) -> None:
    """Wait as long as it takes: who started us knows how long that may be."""
    host, port = server.rsplit(":", 1)
    while True:
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex((host, int(port))) == 0:
                return
        time.sleep(0.05)


if __name__ == "__main__":
    main()
