"""`GET /staff/info` and `GET /staff/settings`: what this service is, which events it has, and how it is configured."""

import os
import platform
import re
import time
from typing import Any

import django
from django.conf import settings
from pydantic import SecretStr
from rest_framework.request import Request
from rest_framework.response import Response

from chassis.events.event import Event
from chassis.events.registry import Handler, handlers, published
from chassis.events.schemas import schema
from chassis.kafka import names
from chassis.observability import privacy
from chassis.staff.access import STAFF, SUPERUSER, StaffView
from chassis.staff.parameters import Parameters, read

STARTED = time.time()

_SECRET = re.compile(r"AUTH|CREDENTIAL|KEY|PASS|SECRET|SIGNATURE|TOKEN")
"""In the name of a variable of free text that may be a secret, although its type does not say so."""


class NoParameters(Parameters):
    """A page without parameters."""


class InformationView(StaffView):
    """The service, its version, its handlers, and the schemas of its events."""

    permissions = {"GET": (STAFF,)}

    def get(self, request: Request) -> Response:
        """The description."""
        read(NoParameters, request)
        consumed = handlers()
        return Response(
            {
                "service": settings.SERVICE_NAME,
                "version": settings.BUILD_VERSION,
                "environment": settings.ENVIRONMENT,
                "has_database": settings.SERVICE_DATABASE is not None,
                "group": names.group() if consumed else None,
                "topic_prefix": settings.KAFKA_PREFIX,
                "handlers": [_handler(topic, handler) for topic, handler in consumed.items()],
                "publishes": [_event(event) for event in published()],
                "process": {
                    "id": os.getpid(),
                    "uptime_seconds": round(time.time() - STARTED, 1),
                    "python": platform.python_version(),
                    "django": django.get_version(),
                },
                "paths": {
                    "openapi": "/schema",
                    "asyncapi": "/asyncapi",
                    "admin": "/admin/" if settings.SERVICE_DATABASE else None,
                },
            }
        )


def _handler(topic: str, handler: Handler) -> dict[str, Any]:
    function = handler.function
    return {
        **_event(handler.event),
        "group": names.group(),
        "dead_letter_topic": names.dead_letter_topic(topic),
        "handler": f"{function.__module__}.{function.__qualname__}",
        "summary": (function.__doc__ or "").strip().partition("\n")[0],
        "attempts": handler.retry.attempts if handler.retry else settings.RETRY_ATTEMPTS,
        "timeout_seconds": handler.timeout or settings.HANDLER_TIMEOUT_SECONDS,
    }


def _event(event: type[Event]) -> dict[str, Any]:
    """An event. The schema is this service's own: a consumer's has the fields that it reads."""
    return {
        "topic": event.topic,
        "topic_on_the_wire": names.topic(event),
        "version": event.version,
        "event": event.__name__,
        "schema": schema(event),
    }


class SettingsView(StaffView):
    """The variables of the environment with their present values."""

    permissions = {"GET": (SUPERUSER,)}

    def get(self, request: Request) -> Response:
        """All variables that the service reads, in alphabetical order."""
        read(NoParameters, request)
        fields = settings.ENVIRONMENT_CLASS.model_fields
        return Response({"settings": [_setting(name.upper(), fields[name]) for name in sorted(fields)]})


def _setting(name: str, field: Any) -> dict[str, Any]:
    value = getattr(settings, name)
    is_secret = _is_secret(name, field.annotation, value)
    default = None if field.is_required() or is_secret else _plain(field.default)
    shown = _plain(value)
    return {
        "name": name,
        "value": (privacy.HIDDEN if shown else shown) if is_secret else shown,
        "default": default,
        "is_secret": is_secret,
        "is_default": not field.is_required() and _plain(value) == _plain(field.default),
        "description": field.description or "",
    }


def _is_secret(name: str, annotation: Any, value: Any) -> bool:
    return (
        isinstance(value, SecretStr)
        or "SecretStr" in str(annotation)
        or (annotation is str and _SECRET.search(name) is not None)
    )


def _plain(value: Any) -> Any:
    """A value as JSON; passwords in URLs are hidden."""
    if isinstance(value, SecretStr):
        return privacy.HIDDEN if value.get_secret_value() else ""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    return privacy.scrub(str(value))
