"""Django's commands use the alias `default`; a service has no such database, only its own."""

from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser


class OnServiceDatabase:
    """Mixin for a Django command: the default of `--database` is the service's alias."""

    def create_parser(self, *args: Any, **kwargs: Any) -> CommandParser:
        """The command's parser, with the alias of the running service as the default."""
        parser: CommandParser = super().create_parser(*args, **kwargs)  # type: ignore[misc]
        parser.set_defaults(database=settings.SERVICE_DATABASE)
        return parser

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Run the command. Raises CommandError in a service without a database."""
        if settings.SERVICE_DATABASE is None:
            raise CommandError(f"{settings.SERVICE_NAME} has no database, which this command requires.")
        return super().execute(*args, **options)  # type: ignore[misc,no-any-return]
