"""`python -m settings.table`: docs/settings.md, made from settings/environment/, which reads it."""

from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

import services
from settings import ROOT
from settings.environment import ENVIRONMENTS, SECRETS_DIR

PAGE = ROOT / "docs" / "settings.md"

BEHIND_GUNICORN = ", ".join(service.name for service in services.BEHIND_GATEWAY)

# What is read before settings/environment/, or by a library: (name, who, values, default, meaning).
OTHERS = (
    ("DJANGO_SETTINGS_MODULE", "all", "`settings.SERVICE`", "—", "Which service a process is, as `--settings` does."),
    ("WEB_CONCURRENCY", BEHIND_GUNICORN, "integer ≥ 1", "`1`", "Web processes of a service on one machine."),
    (
        "WEB_HEALTH_PORT",
        BEHIND_GUNICORN,
        "port",
        "`0`",
        "Port of a web process for probes and metrics alone, on WORKER_HOST: it answers when all threads are busy. 0 is none.",
    ),
    ("WEB_THREADS", BEHIND_GUNICORN, "integer ≥ 1", "`8`", "Threads of each of them."),
    (
        "PROMETHEUS_MULTIPROC_DIR",
        "all",
        "path of an empty folder",
        "—",
        "Where web processes add up their metrics: needed where WEB_CONCURRENCY is more than 1; empty at a start.",
    ),
    ("OTEL_TRACES_EXPORTER", "all", "`none`, `console`, `otlp`", "`none`", "Where spans go; `none` records nothing."),
    (
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "all",
        "URL",
        "`http://localhost:4318`",
        "The collector, with `otlp`. OpenTelemetry's other variables, `OTEL_EXPORTER_OTLP_*`, hold as well.",
    ),
    ("OTEL_EXPORTER_OTLP_TIMEOUT", "all", "seconds", "`2`", "Patience with a collector that hangs."),
    (
        "OTEL_TRACES_SAMPLER",
        "all",
        "a sampler of OpenTelemetry",
        "`parentbased_always_on`",
        "Which traces are recorded; `OTEL_TRACES_SAMPLER_ARG` is its argument.",
    ),
    ("OTEL_SERVICE_NAME", "all", "text", "the service", "`service.name` of the spans."),
    ("FORCE_COLOR", "all", "anything", "—", "Colours in readable logs that go to a pipe."),
    ("NO_COLOR", "all", "anything", "—", "No colours, even in a terminal."),
)

COLUMNS = ("| variable | read by | values | default | meaning |", "|---|---|---|---|---|")

HEAD = f"""\
# Settings

Every variable that a process reads from its environment. Made from `settings/environment/` and each service's `service.py` by
`python -m settings.table --write`; a test fails when the two differ.

- A variable that is wrong or missing ends the start, with one message that names all of them and shows no value.
- Each may also be a file of its lower-case name, `{SECRETS_DIR}/users_database_url` say; the environment wins.
- Production (`ENVIRONMENT=production`, the default) refuses `DEBUG`, the default `SECRET_KEY` and wildcard hosts.
- Lists are comma-separated. Times are in seconds unless the name says hours.
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
    who = "all" if len(readers) == len(ENVIRONMENTS) else ", ".join(readers)
    meaning = (field.description or "").replace("|", "\\|")
    return f"| `{name.upper()}` | {who} | {_values(field)} | {_default(field)} | {meaning} |"


def _values(field: FieldInfo) -> str:
    kind: Any = field.annotation
    if type(None) in get_args(kind):  # may be left unset
        kind = next(choice for choice in get_args(kind) if choice is not type(None))
    if get_origin(kind) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(kind))
    if get_origin(kind) is tuple:
        return "list"
    names = {bool: "`true`, `false`", int: "integer", float: "number", str: "text", SecretStr: "text, secret"}
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
    if isinstance(default, tuple):
        return f"`{','.join(default)}`"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`" if default != "" else "empty"


if __name__ == "__main__":
    import sys

    if sys.argv[1:] == ["--write"]:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(page(), encoding="utf-8")
    else:
        sys.stdout.write(page())
