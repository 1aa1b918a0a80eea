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
from services.declaration import FOLDERS, NAME, SKIPPED, YAML

PATHS = frozenset({"admin", "api", "asyncapi", "docs", "health", "metrics", "schema", "static"})
"""The first segments of paths that each service, or the gateway, has."""

MEANT = frozenset(
    {
        *("all", "base", "consume", "default", "edge", "environment", "job", "kafka", "migrate", "postgres", "public"),
        *("relay", "root", "services", "setup", "template0", "template1", "topics", "web", "worker", "workers"),
    }
)
"""What stands for something else where the names of services stand: engines, kinds of processes, aliases, variables."""

SQL = frozenset((Path(__file__).parent / "postgresql-reserved.txt").read_text(encoding="utf-8").split())
"""PostgreSQL 18, appendix C: what is reserved, and so names no table, role or database without quotes."""

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
        return "a name is 2 to 30 characters of a-z and 0-9, the first one not a digit"
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
    alike = [service.name for service in known if singular(service.name) == singular(name)][:1]
    taken = {
        "there is a service of this name": name in {service.name for service in known},
        f"the gateway has a route /api/{name}": name in {service.route for service in known},
        f"it could be mistaken for {''.join(alike)}": bool(alike),
        f"there is a database {singular(name)}db": f"{singular(name)}db" in {service.database for service in known},
        f"every service, or the gateway, has a path /{name}": name in PATHS,
        f"`{name}` means something else in this repository": name in MEANT,
        "pytest or ruff skip a folder of this name": name in SKIPPED,
        "YAML reads this word as a boolean or as null": name in YAML,
        **{f"{place} exists": (root / place).exists() for place in _places(name)},
        f"{name}/ is no folder of a service": name in FOLDERS,
    }
    if why := next((why for why, is_so in taken.items() if is_so), ""):
        return why
    # Last: it looks into the folders of the repository too.
    return f"a package `{name}` is installed, or stands in platform/" if find_spec(name) else ""


def _places(name: str) -> tuple[str, ...]:
    """Where its files will be, and what a file or folder of this name would hide."""
    return (
        *(name, f"{name}.py", f"settings/{name}.py", f"tests/{name}", f"tests/{name}.py"),
        f"deploy/kubernetes/{name}.yaml",
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
