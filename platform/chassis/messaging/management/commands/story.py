import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from chassis.story import everywhere, local, result
from chassis.story.facts import BadId, Question

ROOT = Path(__file__).resolve().parents[5]


class Command(BaseCommand):
    """`story`: follow one request, user or order, as this service knows it; without --settings, as all services do."""

    help = (
        "Follow one request, user or order through this service's tables and topics, and say where it stands and why."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        everywhere.add_arguments(parser, ROOT)
        parser.add_argument(
            "--answer", action="store_true", help="answer the questions on standard input, each a line of JSON"
        )

    def handle(self, *args: Any, answer: bool, logs: Path, **options: Any) -> None:
        """Print the story. Raises CommandError if nothing is known about the id."""
        if answer:
            self._answer()
            return
        if options["id"] is None:
            raise CommandError("which story? Give the id of an order, a user, a request or a trace.")
        try:
            story = result.find(options["id"], lambda question: [local.answer(question)], logs)
        except (BadId, result.UnknownStory) as error:
            raise CommandError(str(error)) from None
        self.stdout.write(story.to_json() if options["json"] else story.to_text())

    def _answer(self) -> None:
        for line in sys.stdin:
            self.stdout.write(local.answer(Question.model_validate_json(line)).model_dump_json())
            self.stdout.flush()
