#!/usr/bin/env python3
"""The one entry: `manage.py COMMAND --settings=settings.SERVICE` (or DJANGO_SETTINGS_MODULE) says which service."""

import argparse
import importlib.util
import os
import signal
import sys

HINT = """\
Which service? Name it with --settings or DJANGO_SETTINGS_MODULE:

    manage.py {command} --settings=settings.users

The services are {services}.
"""

LONG_LIVED = ("serve", "relay", "consume")


def main() -> None:
    """Run one management command for one service."""
    if sys.argv[1:2] and sys.argv[1] in LONG_LIVED:
        # Loading takes a second, and then the command has a handler of its own. Until then nothing has been begun, so
        # whoever asks for the end gets it at once; without this the start would count as failed, or, as the first
        # process of a container, not even hear it.
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    import settings  # noqa: F401  puts platform/ on the import path

    if not _names_a_service(sys.argv[1:]):
        from services import SERVICES

        command = sys.argv[1] if len(sys.argv) > 1 else "help"
        sys.exit(HINT.format(command=command, services=", ".join(service.name for service in SERVICES)))

    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


def _names_a_service(arguments: list[str]) -> bool:
    """Whether a settings module is named, and is there."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--settings", default=os.environ.get("DJANGO_SETTINGS_MODULE", ""))
    module = parser.parse_known_args(arguments)[0].settings
    try:
        return bool(module) and importlib.util.find_spec(module) is not None
    except ImportError:
        return False


if __name__ == "__main__":
    main()
