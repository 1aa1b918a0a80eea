"""The names of a new service: what follows from NAME, and which names cannot be."""

import builtins
import keyword
import sys
from importlib.util import find_spec
from pathlib import Path

from django.apps import apps

from scaffold import topics
from scaffold.errors import ScaffoldError
from services import Service
from services.declaration import NAME

PATHS = frozenset({"admin", "api", "asyncapi", "docs", "health", "metrics", "schema", "static"})
"""The first segments of paths that each service, or the gateway, has."""

MEANT = frozenset(
    {
        *("all", "base", "consume", "default", "edge", "environment", "job", "kafka", "migrate", "postgres", "public"),
        *("relay", "root", "services", "setup", "template0", "template1", "topics", "web", "worker", "workers"),
    }
)
"""What stands for something else where the names of services stand: engines, kinds of processes, aliases, variables."""

# PostgreSQL 18, appendix C: what is reserved, and so can be no table, role or database without quotes.
SQL = frozenset(
    [
        "all",
        "analyse",
        "analyze",
        "and",
        "any",
        "array",
        "as",
        "asc",
        "asymmetric",
        "authorization",
        "between",
        "bigint",
        "binary",
        "bit",
        "boolean",
        "both",
        "case",
        "cast",
        "char",
        "character",
        "check",
        "coalesce",
        "collate",
        "collation",
        "column",
        "concurrently",
        "constraint",
        "create",
        "cross",
        "dec",
        "decimal",
        "default",
        "deferrable",
        "desc",
        "distinct",
        "do",
        "else",
        "end",
        "except",
        "exists",
        "extract",
        "false",
        "fetch",
        "float",
        "for",
        "foreign",
        "freeze",
        "from",
        "full",
        "grant",
        "greatest",
        "group",
        "grouping",
        "having",
        "ilike",
        "in",
        "initially",
        "inner",
        "inout",
        "int",
        "integer",
        "intersect",
        "interval",
        "into",
        "is",
        "isnull",
        "join",
        "lateral",
        "leading",
        "least",
        "left",
        "like",
        "limit",
        "localtime",
        "localtimestamp",
        "national",
        "natural",
        "nchar",
        "none",
        "normalize",
        "not",
        "notnull",
        "null",
        "nullif",
        "numeric",
        "offset",
        "on",
        "only",
        "or",
        "order",
        "out",
        "outer",
        "overlaps",
        "overlay",
        "placing",
        "position",
        "precision",
        "primary",
        "real",
        "references",
        "returning",
        "right",
        "row",
        "select",
        "session",
        "setof",
        "similar",
        "smallint",
        "some",
        "substring",
        "symmetric",
        "system",
        "table",
        "tablesample",
        "then",
        "time",
        "timestamp",
        "to",
        "trailing",
        "treat",
        "trim",
        "true",
        "union",
        "unique",
        "user",
        "using",
        "values",
        "varchar",
        "variadic",
        "verbose",
        "when",
        "where",
        "window",
        "with",
        "xmlattributes",
        "xmlconcat",
        "xmlelement",
        "xmlexists",
        "xmlforest",
        "xmlnamespaces",
        "xmlparse",
        "xmlpi",
        "xmlroot",
        "xmlserialize",
        "xmltable",
    ]
)

UNCHANGED = frozenset({"alias", "atlas", "bias", "canvas", "gas", "news", "series", "species"})


def singular(name: str) -> str:
    """What one of them is called: `order` of `orders`, `stock` of `stock`. It names the events, and the model's class."""
    if name in UNCHANGED or not name.endswith("s") or name.endswith(("ss", "us", "is")) or len(name) < 4:
        return name
    if name.endswith("ies") and len(name) > 4:
        return f"{name[:-3]}y"
    return name[:-2] if name.endswith(("sses", "shes", "ches", "xes", "zes")) else name[:-1]


def check(name: str, known: tuple[Service, ...], root: Path) -> None:
    """Raise ScaffoldError where no service can be called so."""
    if why := _why_not(name, known, root):
        raise ScaffoldError(f"NAME={name}: {why}. Choose another name.")


def _why_not(name: str, known: tuple[Service, ...], root: Path) -> str:
    if not NAME.fullmatch(name):
        return "a name is 2 to 30 lower-case letters and digits, a letter first"
    return (
        _in_python(name)
        or _in_repository(name, known, root)
        or _in_django(name)
        or (f"`{name}` is a reserved word of SQL" if name in SQL else "")
        or _in_events(name, root)
    )


def _in_python(name: str) -> str:
    class_name = singular(name).capitalize()
    if keyword.iskeyword(name) or keyword.issoftkeyword(name) or keyword.iskeyword(class_name):
        return f"`{name}` is a keyword of Python"
    if name in sys.stdlib_module_names:
        return f"`{name}` is a module of Python's standard library"
    if hasattr(builtins, name) or hasattr(builtins, class_name):
        return f"`{name}` is a built-in name of Python"
    return ""


def _in_repository(name: str, known: tuple[Service, ...], root: Path) -> str:
    if name in {service.name for service in known}:
        return "there is a service of this name"
    if name in {service.route for service in known}:
        return f"the gateway has a route /api/{name} already"
    if f"{singular(name)}db" in {service.database for service in known}:
        return f"there is a database {singular(name)}db already"
    if name in PATHS:
        return f"every service has a path /{name}"
    if name in MEANT:
        return f"`{name}` means something else in this repository"
    for taken in (root / name, root / f"{name}.py", *(_places(name, root))):
        if taken.exists():
            return f"{taken.relative_to(root)} exists already"
    if find_spec(name) is not None:
        return f"a package `{name}` is installed, or stands in platform/"
    return ""


def _places(name: str, root: Path) -> tuple[Path, ...]:
    return (
        root / "settings" / f"{name}.py",
        root / "tests" / name,
        root / "tests" / f"{name}.py",
        root / "docker" / "compose" / f"{name}.yaml",
        root / "deploy" / "kubernetes" / f"{name}.yaml",
    )


def _in_django(name: str) -> str:
    if name in {config.label for config in apps.get_app_configs()}:
        return f"an app of Django is called `{name}`"
    if name in {model._meta.db_table for model in apps.get_models()}:
        return f"a table is called `{name}`"
    return ""


def _in_events(name: str, root: Path) -> str:
    topic = f"{singular(name)}.created"
    return f"the event {topic} exists already" if topic in topics.published(root) else ""
