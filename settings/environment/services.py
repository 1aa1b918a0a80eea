"""The variables that each service reads: those of its kind, the URL of its database, and the settings that it declares."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from django.conf import global_settings
from pydantic import AnyHttpUrl, BeforeValidator, Field, PostgresDsn, create_model

from services import SERVICES, BadDeclaration, Service, Setting
from settings.environment.base import Backend, CommaSeparated, Environment, Unset
from settings.environment.database import Outbox
from settings.environment.gateway import GatewayEnvironment
from settings.environment.messaging import Consumers

DIRECT_URL = (
    "URL of the same database and role without the pooler, for `relay` and `migrate`. Set it if `{}` leads through a pooler"
    " in transaction mode, such as PgBouncer."
)


def environment_of(service: Service, services: tuple[Service, ...] = SERVICES) -> type[Environment]:
    """Return the class that reads the environment of a service; the gateway also reads the URLs of all `services`.

    Raises BadDeclaration if the service declares a setting whose name Django or all services of this kind already use.
    """
    for setting in service.settings:
        if setting.name.lower() in _kind(service).model_fields or hasattr(global_settings, setting.name):
            raise BadDeclaration(
                f"{service.name}/service.py: setting {setting.name} must have another name:"
                " Django, or every service of this kind, has a setting of this name"
            )
    fields: dict[str, Any] = {}
    if service.edge:
        fields |= {other.url_variable.lower(): _url(other) for other in services if not other.edge}
    if service.database:
        fields |= _database(service)
    fields |= {setting.name.lower(): _own(setting) for setting in service.settings}
    return create_model(
        f"{service.name.capitalize()}Environment",
        __base__=_kind(service),
        __doc__=f"The variables that {service.name} reads.",
        **fields,
    )


def _kind(service: Service) -> type[Environment]:
    if service.edge:
        return GatewayEnvironment
    if service.database:
        return Outbox
    return Consumers if service.consumer else Backend


def _database(service: Service) -> dict[str, Any]:
    name = service.database_variable
    return {
        name.lower(): (PostgresDsn, Field(description=f"postgresql://user:password@host:port/{service.database}")),
        service.direct_variable.lower(): (
            Annotated[PostgresDsn | None, Unset],
            Field(None, description=DIRECT_URL.format(name)),
        ),
    }


def _own(setting: Setting) -> tuple[Any, Any]:
    return setting.type, Field(setting.default, ge=setting.minimum, le=setting.maximum, description=setting.description)


def _url(service: Service) -> tuple[Any, Any]:
    return Annotated[CommaSeparated, BeforeValidator(_urls)], Field(
        (f"http://localhost:{service.port}",),
        description=f"Base URLs of the replicas of {service.name}, comma-separated.",
    )


def _urls(value: Any) -> tuple[str, ...]:
    parts = [part.strip().rstrip("/") for part in value.split(",")] if isinstance(value, str) else value
    for part in parts:
        url = AnyHttpUrl(part)
        if url.scheme != "http" or (url.path or "/") != "/":
            raise ValueError("must be http://host:port without a path")
    return tuple(parts)


class _Environments(Mapping[str, type[Environment]]):
    """Creates the class of a service when it is first used: a process needs only its own, and each takes 5 ms."""

    def __init__(self, services: tuple[Service, ...]) -> None:
        self._services = {service.name: service for service in services}
        self._created: dict[str, type[Environment]] = {}

    def __getitem__(self, name: str) -> type[Environment]:
        if name not in self._created:
            self._created[name] = environment_of(self._services[name])
        return self._created[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._services)

    def __len__(self) -> int:
        return len(self._services)


ENVIRONMENTS: Mapping[str, type[Environment]] = _Environments(SERVICES)
"""The class that reads the environment of each service, by its name."""
