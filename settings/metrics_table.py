"""`python -m settings.metrics_table`: generate docs/metrics.md from the catalogue of metrics."""

import importlib
import sys
from collections.abc import Iterator, Sequence
from types import ModuleType

import services
from chassis.observability import catalogue
from settings import ROOT

PAGE = ROOT / "docs" / "metrics.md"
NAMES = tuple(service.name for service in services.SERVICES)

ALONE = "all, except several web processes"
DJANGO = "web, relay, consume"
DATABASE = ("alias", "vendor")
PYTHON = ("implementation", "major", "minor", "patchlevel", "version")

# Metrics of libraries: (name, type, labels, processes, meaning).
LIBRARIES = (
    ("process_resident_memory_bytes", "gauge", ("pid",), "all", "Memory of the process."),
    ("process_virtual_memory_bytes", "gauge", ("pid",), "all", "Address space of the process."),
    ("process_cpu_seconds_total", "counter", ("pid",), "all", "Processor time of the process."),
    ("process_open_fds", "gauge", ("pid",), "all", "Open files and connections of the process."),
    ("process_max_fds", "gauge", ("pid",), "all", "The limit of open files and connections."),
    ("process_start_time_seconds", "gauge", ("pid",), "all", "When the process started, in seconds since the epoch."),
    ("python_info", "gauge", PYTHON, "all", "1, with the version of Python."),
    ("python_gc_collections_total", "counter", ("generation",), ALONE, "Garbage collections."),
    ("python_gc_objects_collected_total", "counter", ("generation",), ALONE, "Objects freed by garbage collection."),
    (
        "python_gc_objects_uncollectable_total",
        "counter",
        ("generation",),
        ALONE,
        "Objects that garbage collection could not free.",
    ),
    ("django_db_execute_total", "counter", DATABASE, DJANGO, "Statements sent to the database."),
    ("django_db_execute_many_total", "counter", DATABASE, DJANGO, "Statements sent to the database in bulk."),
    ("django_db_query_duration_seconds", "histogram", DATABASE, DJANGO, "Duration of a statement."),
    ("django_db_errors_total", "counter", (*DATABASE, "type"), DJANGO, "Statements that failed."),
    ("django_db_new_connections_total", "counter", DATABASE, DJANGO, "Attempts to connect to the database."),
    ("django_db_new_connection_errors_total", "counter", DATABASE, DJANGO, "Attempts to connect that failed."),
)

COLUMNS = ("| metric | type | labels | processes | meaning |", "|---|---|---|---|---|")

HEAD = """\
# Metrics

Every metric that a process serves at `/metrics`. This page is generated from the definitions by `python -m
settings.metrics_table --write`; a test checks that it is up to date.

- Prometheus adds the labels `service`, `process` (gateway, web, relay, consume or monitor) and `instance` to all of
  them; its own metric `up` says whether a process responds.
- Times are in seconds, sizes in bytes. A histogram has the series `_bucket`, `_sum` and `_count`.
- Several web processes on one port (`WEB_CONCURRENCY`) serve their common values, whichever of them responds.
  Only metrics of the process itself (`process_*`) are separate, by `pid`. Counters include the web processes that have
  ended.
- With `Accept: application/openmetrics-text`, the duration of a request refers to its trace, if that is recorded and
  there is one web process.
"""


def modules() -> dict[str, ModuleType]:
    """The modules that define metrics, by the headings of their sections."""
    paths = [
        *sorted((ROOT / "platform" / "chassis").rglob("metrics.py")),
        *(ROOT / one / "metrics.py" for one in NAMES),
    ]
    found: dict[str, ModuleType] = {}
    for path in paths:
        if path.exists():
            root = ROOT if path.parent.parent == ROOT else ROOT / "platform"
            parts = path.relative_to(root).with_suffix("").parts
            found[" ".join(parts[:-1]).removesuffix(" observability").capitalize()] = importlib.import_module(
                ".".join(parts)
            )
    return found


def series() -> dict[str, tuple[str, ...]]:
    """The labels of every series that a scrape may contain, by its name, including those of libraries."""
    modules()
    known = {one.name: (_kind(one), tuple(one.metric._labelnames)) for one in catalogue.definitions()}
    known |= {name: (kind, labels) for name, kind, labels, *_ in LIBRARIES}
    found: dict[str, tuple[str, ...]] = {}
    for name, (kind, labels) in known.items():
        if kind == "histogram":
            found |= {f"{name}_bucket": (*labels, "le"), f"{name}_count": labels, f"{name}_sum": labels}
        else:
            found[name] = labels
    return found


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for heading, module in modules().items():
        parts += [f"## {heading}\n", *COLUMNS, *_rows(module), ""]
    rows = [_row(name, kind, labels, processes, meaning) for name, kind, labels, processes, meaning in LIBRARIES]
    return "\n".join([*parts, "## Libraries\n", *COLUMNS, *rows, ""])


def _rows(module: ModuleType) -> Iterator[str]:
    """The metrics that a module defines, in the order of their definition."""
    own = {id(value) for value in vars(module).values()}
    for one in catalogue.definitions():
        if id(one.metric) in own:
            processes = "all" if set(one.processes) == set(catalogue.EVERY) else ", ".join(one.processes)
            where = f"{processes}, with a database" if one.needs_database else processes
            yield _row(one.name, _kind(one), one.metric._labelnames, where, one.metric._documentation)


def _row(name: str, kind: str, labels: Sequence[str], processes: str, meaning: str) -> str:
    return f"| `{name}` | {kind} | {', '.join(f'`{label}`' for label in labels)} | {processes} | {meaning} |"


def _kind(definition: catalogue.Definition) -> str:
    return type(definition.metric).__name__.lower()


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        PAGE.write_text(page(), encoding="utf-8")
    else:
        sys.stdout.write(page())
