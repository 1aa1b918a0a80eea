"""The names of a new service: those derived from NAME, and the check that NAME is free."""

import builtins
import keyword
import sys
from importlib.util import find_spec
from pathlib import Path

from django.apps import apps

from scaffold import topics
from scaffold.errors import ScaffoldError
from services import Service
from services.declaration import FOLDERS, NAME, SKIPPED, YAML

PATHS = frozenset({"admin", "api", "asyncapi", "docs", "health", "metrics", "schema", "staff", "static"})
"""The first path segments that every service, or the gateway, uses."""

RESERVED = frozenset(
    {
        *("all", "base", "consume", "default", "edge", "environment", "job", "kafka", "migrate", "postgres", "public"),
        *("relay", "root", "services", "setup", "template0", "template1", "topics", "web", "worker", "workers"),
    }
)
"""Names with another meaning in places that contain service names: engines, kinds of processes, aliases, variables."""

SQL = frozenset((Path(__file__).parent / "postgresql-reserved.txt").read_text(encoding="utf-8").split())
"""The reserved words of PostgreSQL 18, appendix C, which cannot name a table, role or database without quotes."""

SAME_IN_SINGULAR = frozenset({"alias", "atlas", "bias", "canvas", "gas", "news", "series", "species"})


def singular(name: str) -> str:
    """The singular of a name: `order` of `orders`, `stock` of `stock`. It names the events and the model class."""
    if name in SAME_IN_SINGULAR or not name.endswith("s") or name.endswith(("ss", "us", "is")) or len(name) < 4:
        return name
    if name.endswith("ies") and len(name) > 4:
        return f"{name[:-3]}y"
    return name[:-2] if name.endswith(("sses", "shes", "ches", "xes", "zes")) else name[:-1]


def check(name: str, known: tuple[Service, ...], root: Path) -> None:
    """Raise ScaffoldError if no service can have this name."""
    if reason := _objection(name, known, root):
        raise ScaffoldError(f"NAME={name}: {reason}. Choose another name.")


def _objection(name: str, known: tuple[Service, ...], root: Path) -> str:
    if not NAME.fullmatch(name):
        return "a name consists of 2 to 30 characters of a-z and 0-9, the first one not a digit"
    return (
        _in_python(name)
        or _in_repository(name, known, root)
        or _in_django(name)
        or (f"`{name}` is a reserved word in SQL" if name in SQL else "")
        or _in_events(name, root)
    )


def _in_python(name: str) -> str:
    class_name = singular(name).capitalize()
    if keyword.iskeyword(name) or keyword.issoftkeyword(name) or keyword.iskeyword(class_name):
        return f"`{name}` is a Python keyword"
    if name in sys.stdlib_module_names:
        return f"`{name}` is a module of Python's standard library"
    if hasattr(builtins, name) or hasattr(builtins, class_name):
        return f"`{name}` is a Python built-in"
    return ""


def _in_repository(name: str, known: tuple[Service, ...], root: Path) -> str:
    similar = [service.name for service in known if singular(service.name) == singular(name)][:1]
    taken = {
        "a service of this name exists": name in {service.name for service in known},
        f"the gateway has the route /api/{name}": name in {service.route for service in known},
        f"it could be mistaken for {''.join(similar)}": bool(similar),
        f"the database {singular(name)}db exists": f"{singular(name)}db" in {service.database for service in known},
        f"every service, or the gateway, has the path /{name}": name in PATHS,
        f"`{name}` has another meaning in this repository": name in RESERVED,
        "pytest or ruff skip a folder of this name": name in SKIPPED,
        "YAML reads this word as a boolean or as null": name in YAML,
        **{f"{place} exists": (root / place).exists() for place in _places(name)},
        f"{name}/ is not a folder of a service": name in FOLDERS,
    }
    if reason := next((reason for reason, is_so in taken.items() if is_so), ""):
        return reason
    # Last, since it also searches the folders of the repository.
    return f"a package `{name}` is installed, or is in platform/" if find_spec(name) else ""


def _places(name: str) -> tuple[str, ...]:
    """The paths of its files, and those that a file or folder of this name would hide."""
    return (
        *(name, f"{name}.py", f"settings/{name}.py", f"tests/{name}", f"tests/{name}.py"),
        f"deploy/kubernetes/{name}.yaml",
    )


def _in_django(name: str) -> str:
    if name in {config.label for config in apps.get_app_configs()}:
        return f"a Django app is called `{name}`"
    if name in {model._meta.db_table for model in apps.get_models()}:
        return f"a table is called `{name}`"
    return ""


def _in_events(name: str, root: Path) -> str:
    topic = f"{singular(name)}.created"
    return f"the event {topic} already exists" if topic in topics.published(root) else ""
