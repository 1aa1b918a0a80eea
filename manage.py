#!/usr/bin/env python3
"""The one entry: `manage.py COMMAND --settings=settings.SERVICE` (or DJANGO_SETTINGS_MODULE) says which service."""

import os
import signal
import sys

HINT = """\
Which service? Say it with --settings or DJANGO_SETTINGS_MODULE:

    manage.py {command} --settings=settings.users     (or settings.orders, settings.payments, settings.gateway)
"""

LONG_LIVED = ("serve", "relay", "consume")


def main() -> None:
    """Run one management command for one service."""
    if sys.argv[1:2] and sys.argv[1] in LONG_LIVED:
        # Loading takes a second, and then the command has a handler of its own. Until then nothing has been begun, so
        # whoever asks for the end gets it at once; without this the start would count as failed, or, as the first
        # process of a container, not even hear it.
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    chosen = "DJANGO_SETTINGS_MODULE" in os.environ or any(a.startswith("--settings") for a in sys.argv)
    if not chosen:
        command = sys.argv[1] if len(sys.argv) > 1 else "help"
        sys.exit(HINT.format(command=command))

    from django.core.management import execute_from_command_line

    import settings  # noqa: F401  puts platform/ on the import path

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
