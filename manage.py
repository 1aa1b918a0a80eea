#!/usr/bin/env python3
"""The one entry: `manage.py COMMAND --settings=settings.SERVICE` (or DJANGO_SETTINGS_MODULE) says which service."""

import argparse
import contextlib
import gc
import importlib.util
import os
import signal
import sys

HINT = """\
{problem} Name a service with --settings or DJANGO_SETTINGS_MODULE:

    manage.py {command} --settings=settings.users

The services are {services}; the monitor of the system has settings.monitor, the console settings.console.
"""

LONG_LIVED = ("serve", "relay", "consume", "monitor", "console")
OF_THE_PLATFORM = ("monitor", "console")
"""Settings modules of processes that belong to no service."""

LOGGED = (*LONG_LIVED, "migrate", "topics", "purge")
"""The commands that a deployment runs: their errors belong to its logs. Those of other commands are for the person who runs them."""


def main() -> None:
    """Run one management command for one service."""
    # Loading creates some hundred thousand objects and hardly any garbage; Python would search for it a thousand times.
    gc.set_threshold(50_000, 20, 20)
    if sys.argv[1:2] and sys.argv[1] in LONG_LIVED:
        # Loading takes a second, and then the command has a handler of its own. Until then nothing has been begun, so
        # whoever asks for the end gets it at once; without this the start would count as failed, or, as the first
        # process of a container, not even hear it.
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    import settings  # noqa: F401  puts platform/ on the import path
    from chassis.observability import startup

    startup.install()
    with startup.exits_reported():
        _run(sys.argv)


def _run(argv: list[str]) -> None:
    import settings
    from services import SERVICES

    names = [service.name for service in SERVICES]
    if argv[1:2] == ["story"] and not _settings_module(argv[1:]):
        from chassis.story import everywhere

        addresses = {service.name: service.variables() for service in SERVICES if service.uses_kafka}
        sys.exit(everywhere.main(argv[2:], addresses, settings.ROOT))
    if problem := _problem(_settings_module(argv[1:]), names):
        command = argv[1] if len(argv) > 1 else "help"
        sys.exit(HINT.format(problem=problem, command=command, services=", ".join(names)))

    from django.core.management import CommandError, execute_from_command_line

    from chassis.database.failures import is_unavailable
    from chassis.observability import startup

    logged = argv[1] in LOGGED and "--traceback" not in argv and startup.writes_json()
    try:
        # With --traceback Django raises a CommandError, which it otherwise prints.
        execute_from_command_line([*argv, "--traceback"] if logged else argv)
    except CommandError as error:
        if not logged:
            raise
        startup.fail(str(error), error.returncode)
    except Exception as error:
        # Of a database that is away the operator has to know that, and not where in the code it was asked.
        if "--traceback" in argv or not is_unavailable(error):
            raise
        said = " ".join(str(error).split())
        sys.exit(f"CommandError: the database cannot be used now: {said} (--traceback shows where)")


def _settings_module(arguments: list[str]) -> str:
    """The settings module that is named, or nothing."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--settings", default=os.environ.get("DJANGO_SETTINGS_MODULE", ""))
    return str(parser.parse_known_args(arguments)[0].settings)


def _problem(module: str, names: list[str]) -> str:
    """Why a settings module cannot be that of a service; empty where it can. One outside of `settings` may be your own."""
    if not module:
        return "Which service?"
    package, _, name = module.partition(".")
    # Other modules of the package, and the services themselves, are not settings modules: with one of them, Django would
    # run with its defaults or with only part of our settings.
    if (package == "settings" and name not in {*names, *OF_THE_PLATFORM}) or package in names:
        return f"{module} is not the settings module of a service."
    try:
        found = importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        found = False
    return "" if found else f"There is no settings module {module}."


def _end_by(number: int) -> None:
    """End as this signal ends a process by default, so that a shell knows why; what was printed is kept."""
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _is_unread() -> bool:
    """Whether nobody reads standard output any more, as after `| head`."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return True
    return False


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        _end_by(signal.SIGINT)
    except BrokenPipeError:
        if not _is_unread():
            raise
        _end_by(signal.SIGPIPE)
