#!/usr/bin/env python3
"""The one entry: `manage.py COMMAND --settings=settings.SERVICE` (or DJANGO_SETTINGS_MODULE) says which service."""

import os
import sys

HINT = """\
Which service? Say it with --settings or DJANGO_SETTINGS_MODULE:

    manage.py {command} --settings=settings.users     (or settings.orders, settings.payments, settings.gateway)
"""


def main() -> None:
    """Run one management command for one service."""
    chosen = "DJANGO_SETTINGS_MODULE" in os.environ or any(a.startswith("--settings") for a in sys.argv)
    if not chosen:
        command = sys.argv[1] if len(sys.argv) > 1 else "help"
        sys.exit(HINT.format(command=command))

    from django.core.management import execute_from_command_line

    import settings  # noqa: F401  puts platform/ on the import path

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
