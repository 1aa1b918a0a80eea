import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from chassis.events.registry import published
from chassis.events.schemas import file_name, schema


class Command(BaseCommand):
    """`schemas`: write the JSON Schema of each event that the service publishes."""

    help = "Write the JSON Schemas of the events that this service publishes, by default to docs/events/."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--to", type=Path, default=Path("docs/events"), metavar="FOLDER")

    def handle(self, *args: Any, to: Path, **options: Any) -> None:
        """Write the schemas, and print their file names."""
        for event in published():
            target = to / file_name(event)
            target.write_text(json.dumps(schema(event), indent=2) + "\n")
            self.stdout.write(str(target))
        if not published():
            self.stdout.write(f"{settings.SERVICE_NAME} publishes no events.")
