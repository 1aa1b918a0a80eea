"""Regenerates the files that are derived from the declarations of all services."""

import os
import subprocess
import sys
from pathlib import Path

from scaffold.errors import ScaffoldError
from scaffold.writing import Journal
from services import discover
from services.generated import WITH_LISTS_OR_BLOCKS

PLACES = (*WITH_LISTS_OR_BLOCKS, "deploy/kubernetes", "docs/events", "docs/settings.md", "docs/metrics.md")
"""The files and folders that contain them, and no others: `docker/secrets/` may be unreadable, other files open in an editor."""


def write(name: str, journal: Journal, root: Path) -> None:
    """Write them, recorded by the journal. Raises ScaffoldError if one of the commands fails."""
    journal.watch(*PLACES)
    for arguments in (
        ("-m", "services", "--write"),
        ("-m", "settings.table", "--write"),
        ("-m", "settings.metrics_table", "--write"),
        ("manage.py", "schemas", f"--settings=settings.{name}"),
    ):
        _run(root, *arguments)


def offline(root: Path) -> dict[str, str]:
    """The environment for a process that reads the settings of any service and connects to nothing."""
    databases = (service.database_variable for service in discover(root) if service.database)
    return {"ENVIRONMENT": "development", **dict.fromkeys(databases, "postgresql://x@127.0.0.1:1/x")}


def _run(root: Path, *arguments: str) -> None:
    environment = {**os.environ, **offline(root), "PYTHONPATH": str(root / "platform"), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ScaffoldError(f"{' '.join(arguments)} failed; nothing was written:\n{done.stdout}{done.stderr}")
