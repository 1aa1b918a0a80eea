"""`python -m settings.table`: generate docs/settings.md from settings/environment/."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

import services
from settings import ROOT
from settings.environment import ENVIRONMENTS as OF_SERVICES
from settings.environment import SECRETS_DIR, Common, ConsoleEnvironment, MonitorEnvironment

ENVIRONMENTS: dict[str, type[Common]] = {
    **OF_SERVICES,
    "monitor": MonitorEnvironment,
    "console": ConsoleEnvironment,
}
"""The class that reads the environment of each service, and those of the monitor and the console."""

PAGE = ROOT / "docs" / "settings.md"

BEHIND_GUNICORN = ", ".join(service.name for service in services.BEHIND_GATEWAY)

# Variables that are read before settings/environment/, or by a library: (name, read by, values, default, meaning).
OTHERS = (
    (
        "DJANGO_SETTINGS_MODULE",
        "all",
        ", ".join(f"`settings.{name}`" for name in ENVIRONMENTS),
        "—",
        "The service that a process belongs to, or the monitor or the console; the same as the option `--settings`.",
    ),
    (
        "WEB_CONCURRENCY",
        BEHIND_GUNICORN,
        "integer ≥ 1",
        "`2`",
        "Number of web processes of a service on one machine: one per core. The default of a service without a database is 1.",
    ),
    (
        "WEB_HEALTH_PORT",
        BEHIND_GUNICORN,
        "port",
        "`0`",
        "Port, on WORKER_HOST, that serves only health checks and metrics, even if all threads are busy. 0 disables it.",
    ),
    ("WEB_THREADS", BEHIND_GUNICORN, "integer ≥ 1", "`4`", "Number of threads per web process."),
    (
        "OTEL_TRACES_EXPORTER",
        "all",
        "`none`, `console`, `otlp`",
        "`none`",
        "Destination of spans; with `none`, no spans are recorded.",
    ),
    (
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "all",
        "URL",
        "`http://localhost:4318`",
        "URL of the collector, for `otlp`. OpenTelemetry's other variables, `OTEL_EXPORTER_OTLP_*`, also apply.",
    ),
    ("OTEL_EXPORTER_OTLP_TIMEOUT", "all", "seconds > 0", "`2`", "Timeout of an export to the collector."),
    (
        "OTEL_TRACES_SAMPLER",
        "all",
        "`always_on`, `always_off`, `traceidratio`, `ratelimiting`, or `parentbased_` and one of them",
        "`parentbased_always_on`",
        "Which new traces are recorded; set it at the gateway, since all others obey the flag of `traceparent`.",
    ),
    (
        "OTEL_TRACES_SAMPLER_ARG",
        "all",
        "0 to 1, or > 0",
        "`1`",
        "The ratio of new traces that are recorded, for `traceidratio`; for `ratelimiting`, how many per second.",
    ),
    (
        "OTEL_BSP_MAX_QUEUE_SIZE",
        "all",
        "integer > 0",
        "`2048`",
        "Number of spans (at the gateway: of requests) that may wait for the collector; more are dropped and counted.",
    ),
    ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "all", "integer > 0", "`512`", "Number of spans that are exported together."),
    (
        "OTEL_BSP_SCHEDULE_DELAY",
        "all",
        "integer > 0 (ms)",
        "`5000`",
        "After this time, spans are exported even if there are fewer than a batch.",
    ),
    (
        "OTEL_RESOURCE_ATTRIBUTES",
        "all",
        "`name=value,…`",
        "—",
        "Attributes of the resource of spans, such as `service.version=1.2.3`; they override those of the process.",
    ),
    ("OTEL_SERVICE_NAME", "all", "text", "the service's name", "The attribute `service.name` of spans."),
    ("FORCE_COLOR", "all", "any value", "—", "Colour console logs even if they are not written to a terminal."),
    ("NO_COLOR", "all", "any value", "—", "Do not colour console logs."),
)

COLUMNS = ("| variable | read by | values | default | meaning |", "|---|---|---|---|---|")

HEAD = f"""\
# Settings

Every variable that a process reads from its environment. This page is generated from `settings/environment/` and each
service's `service.py` by `python -m settings.table --write`; a test checks that it is up to date.

- If a variable is invalid or missing, the process does not start. One message names all such variables and shows no value.
- Each variable can also be a file with its lower-case name, such as `{SECRETS_DIR}/users_database_url`. The environment
  takes precedence.
- Production (`ENVIRONMENT=production`, the default) does not allow `DEBUG`, the default `SECRET_KEY` and wildcard hosts.
- Lists are comma-separated. Times are in seconds unless the name contains `HOURS`.
"""


def page() -> str:
    """The whole page."""
    others = [f"| `{name}` | {' | '.join(rest)} |" for name, *rest in OTHERS]
    rows = [_row(name, field) for name, field in _fields()]
    return "\n".join([HEAD, *COLUMNS, *rows, "", "## Read by servers and libraries", "", *COLUMNS, *others, ""])


def _fields() -> Iterator[tuple[str, FieldInfo]]:
    seen: set[str] = set()
    for environment in ENVIRONMENTS.values():
        for name, field in environment.model_fields.items():
            if name not in seen:
                seen.add(name)
                yield name, field


def _row(name: str, field: FieldInfo) -> str:
    readers = [service for service, environment in ENVIRONMENTS.items() if name in environment.model_fields]
    who = "all" if readers == [*ENVIRONMENTS] else "all services" if readers == [*OF_SERVICES] else ", ".join(readers)
    meaning = (field.description or "").replace("|", "\\|")
    return f"| `{name.upper()}` | {who} | {_values(field)} | {_default(field)} | {meaning} |"


def _values(field: FieldInfo) -> str:
    kind: Any = field.annotation
    if type(None) in get_args(kind):  # optional
        kind = next(choice for choice in get_args(kind) if choice is not type(None))
    if get_origin(kind) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(kind))
    if get_origin(kind) is tuple:
        return "list"
    names = {
        bool: "`true`, `false`",
        int: "integer",
        float: "number",
        str: "text",
        Path: "path",
        SecretStr: "text, secret",
    }
    bounds = [_bound(rule) for rule in field.metadata]
    return " ".join([names.get(kind, "URL, secret"), *(bound for bound in bounds if bound)])


def _bound(rule: Any) -> str:
    for attribute, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<")):
        if hasattr(rule, attribute):
            limit = getattr(rule, attribute)
            return f"{sign} {int(limit) if limit == int(limit) else limit}"
    pattern = getattr(rule, "pattern", None)
    return f"like `{pattern}`" if pattern else ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    default = field.default
    if default is None:
        return "unset"
    if isinstance(default, SecretStr):
        return "**required** in production" if default.get_secret_value() else "empty"
    if isinstance(default, tuple) and default:
        return f"`{','.join(default)}`"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`" if default not in {"", ()} else "empty"


if __name__ == "__main__":
    import sys

    if sys.argv[1:] == ["--write"]:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(page(), encoding="utf-8")
    else:
        sys.stdout.write(page())
