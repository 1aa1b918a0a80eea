"""The files that are generated from the declarations of all services: written anew, with the new one."""

import os
import subprocess
import sys
from pathlib import Path

from scaffold.errors import ScaffoldError
from scaffold.writing import Journal
from services import discover

PLACES = ("docs", "docker", "deploy", "pyproject.toml")
"""Where they are."""


def write(name: str, journal: Journal, root: Path) -> None:
    """Write them, with the journal watching. Raises ScaffoldError when one of the commands fails."""
    journal.watch(*PLACES)
    for arguments in (
        ("-m", "services", "--write"),
        ("-m", "settings.table", "--write"),
        ("manage.py", "schemas", f"--settings=settings.{name}"),
    ):
        _run(root, *arguments)


def _run(root: Path, *arguments: str) -> None:
    # What reads the settings and connects to nothing.
    databases = {s.database_variable: "postgresql://x@127.0.0.1:1/x" for s in discover(root) if s.database}
    environment = {
        **{name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"},
        **databases,
        "ENVIRONMENT": "development",
        "PYTHONPATH": str(root / "platform"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ScaffoldError(f"{' '.join(arguments)} failed; nothing was written:\n{done.stdout}{done.stderr}")
