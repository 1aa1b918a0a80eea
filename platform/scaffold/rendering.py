"""Renders the templates with the engine of Django's `startapp`, and formats the result with ruff."""

import io
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from django.core.management.templates import TemplateCommand

from scaffold.errors import ScaffoldError
from scaffold.plan import Plan

TEMPLATES = Path(__file__).parent / "templates"
UNUSED_NAME = "zzz"
"""A name that occurs nowhere."""


class _Templates(TemplateCommand):
    """`startapp` without its validation of names, which `scaffold.names` has checked."""

    def validate_name(self, name: str, name_or_dir: str = "name") -> None:
        """Accept every name."""


@contextmanager
def rendered(plan: Plan, root: Path) -> Iterator[Path]:
    """The files of the service in a temporary folder, laid out as in the repository. Raises ScaffoldError."""
    _check_class_names(plan)
    with _files(plan) as folder:
        _format(folder, root)
        yield folder


@contextmanager
def _files(plan: Plan) -> Iterator[Path]:
    with TemporaryDirectory(prefix="service-") as name:
        folder = Path(name)
        for kind in ("every", "database" if plan.has_database else "kafka"):
            options = {"template": str(TEMPLATES / kind), "extensions": ["py"], "files": [], "verbosity": 0}
            _Templates().handle("app", plan.name, target=name, **options, **plan.context())
        yield folder


def _format(folder: Path, root: Path) -> None:
    """Wrap lines and sort imports, which depend on the names."""
    # The new packages are first-party code, although they are still in another folder.
    sources = ", ".join(f'"{path}"' for path in (root, root / "platform", folder))
    options = ("--config", str(root / "pyproject.toml"), "--config", f"src = [{sources}]", "--no-cache", "--quiet")
    for command in (("check", "--select", "I", "--fix"), ("format", "--config", "extend-exclude = []")):
        _run(sys.executable, "-m", "ruff", *command, *options, str(folder))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ScaffoldError(
            f"{' '.join(command[:4])} failed with exit status {done.returncode}:\n{done.stdout}{done.stderr}"
        )


def _check_class_names(plan: Plan) -> None:
    """Raise ScaffoldError if the code of every service uses a class name for something else, as with `Request`."""
    other = replace(plan, name=UNUSED_NAME)
    with _files(other) as folder:
        used = {token for path in folder.rglob("*.py") for token in _names(path.read_text(encoding="utf-8"))}
    for name in (plan.model, plan.config):
        if name in used:
            raise ScaffoldError(
                f"NAME={plan.name}: its class would be called {name}, like a class that every service uses."
                " Choose another name."
            )


def _names(source: str) -> Iterator[str]:
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NAME:
            yield token.string
