"""Django's own commands take `--database default`; a service has no such database, but its own."""

from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser


class OnServiceDatabase:
    """Mixin for a Django command: `--database` is the service's alias unless said otherwise."""

    def create_parser(self, *args: Any, **kwargs: Any) -> CommandParser:
        """The command's parser, with the alias of the running service as the default."""
        parser: CommandParser = super().create_parser(*args, **kwargs)  # type: ignore[misc]
        parser.set_defaults(database=settings.SERVICE_DATABASE)
        return parser

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Run the command. Raises CommandError in a service that has no database."""
        if settings.SERVICE_DATABASE is None:
            raise CommandError(f"{settings.SERVICE_NAME} has no database: there is nothing to do for this command.")
        return super().execute(*args, **options)  # type: ignore[misc,no-any-return]
