"""Several management commands in one process: `python -P platform/embedded/commands.py "migrate -v0" topics`.

Loading a service takes most of the time of a short command, so `make demo` loads it once. DJANGO_SETTINGS_MODULE says
which service.
"""

import os
import shlex
import sys


def main() -> None:
    """Run each argument as one command; the first that fails ends it."""
    sys.path.insert(0, os.getcwd())
    import settings  # noqa: F401  puts platform/ on the import path

    from django.core.management import execute_from_command_line

    for command in sys.argv[1:]:
        execute_from_command_line(["manage.py", *shlex.split(command)])


if __name__ == "__main__":
    main()
