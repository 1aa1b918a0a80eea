"""`manage.py story ID` without a service: asks every service whose addresses are known, each in a process of its own.

Each process has only its own service's settings, so it can read nothing that the service itself cannot read. The addresses
are those of the environment, and of var/dev.env while `make up` runs.
"""

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from chassis.story import result
from chassis.story.facts import BadId, Facts, Question

ANSWER_SECONDS = 120.0
"""Maximum time of an answer."""


def main(arguments: Sequence[str], services: Mapping[str, Sequence[str]], root: Path) -> int:
    """Print the story. `services` maps the services to the variables with their addresses. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="manage.py story", description=__doc__)
    add_arguments(parser, root)
    options = parser.parse_args(arguments)
    if options.id is None:
        parser.error("the following arguments are required: ID")
    environment = {**_addresses(root / "var" / "dev.env"), **os.environ}
    with ExitStack() as stack:
        try:
            Question.about(options.id)  # is refused before a process starts
            asked = [stack.enter_context(_asked(name, services, environment, root)) for name in services]
            story = result.find(options.id, lambda question: _ask_all(asked, question), options.logs)
        except (BadId, result.UnknownStory) as error:
            print(f"manage.py story: {error}", file=sys.stderr)
            return 1
    print(story.to_json() if options.json else story.to_text())
    return 0


def add_arguments(parser: argparse.ArgumentParser, root: Path) -> None:
    """The arguments of the command, with and without a service."""
    parser.add_argument("id", nargs="?", metavar="ID", help="an order's, a user's, a request's or a trace's id")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--logs", type=Path, default=root / "var" / "log", metavar="FOLDER", help="the log files (var/log)"
    )


def _addresses(path: Path) -> dict[str, str]:
    """The variables of var/dev.env, if `make up` runs."""
    if not path.exists():
        return {}
    pairs = (word.partition("=") for line in path.read_text().splitlines() for word in shlex.split(line))
    return {name: value for name, _, value in pairs}


class _Asked:
    """A service that answers questions, one per line."""

    def __init__(self, service: str, process: "subprocess.Popen[str]", errors: IO[str]) -> None:
        self._service = service
        self._process = process
        self._errors = errors

    def send(self, question: Question) -> None:
        """Send a question. A process that has ended is noticed by `receive`."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(question.model_dump_json() + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass

    def receive(self) -> Facts:
        """Receive the answer. A service that cannot answer has a problem instead of facts."""
        assert self._process.stdout is not None
        limit = threading.Timer(ANSWER_SECONDS, self._process.kill)
        limit.start()
        try:
            line = self._process.stdout.readline()
        finally:
            limit.cancel()
        if line:
            return Facts.model_validate_json(line)
        self._errors.seek(0)
        said = [text.strip() for text in self._errors.read().splitlines() if text.strip()]
        return Facts(service=self._service, problems=(f"cannot be asked: {' '.join(said[-4:])[:500]}",))


@contextmanager
def _asked(
    service: str, services: Mapping[str, Sequence[str]], environment: Mapping[str, str], root: Path
) -> Iterator[_Asked]:
    foreign = {variable for name, variables in services.items() if name != service for variable in variables}
    own = {name: value for name, value in environment.items() if name not in foreign}
    own |= {"LOG_LEVEL": "ERROR", "LOG_FORMAT": "console", "OTEL_TRACES_EXPORTER": "none"}
    command = [sys.executable, str(root / "manage.py"), "story", "--answer", f"--settings=settings.{service}"]
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command, cwd=root, env=own, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
        )
        try:
            yield _Asked(service, process, errors)
        finally:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()


def _ask_all(asked: Sequence[_Asked], question: Question) -> list[Facts]:
    for one in asked:
        one.send(question)
    return [one.receive() for one in asked]
