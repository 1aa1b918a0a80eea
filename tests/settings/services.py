"""The required environment of each service in production, and a way to run it with nothing else."""

import os
import subprocess
import sys
from pathlib import Path

import services
from tests.forks.completed import completed

ROOT = Path(__file__).resolve().parents[2]

SECRET = "".join(chr(ord("a") + n * 7 % 26) for n in range(60)) + "0123456789"

REQUIRED = {
    one.name: {one.database_variable: f"postgresql://{one.name}:hunter2@db.invalid:5432/{one.database}"}
    if one.database
    else {}
    for one in services.SERVICES
}

SERVICE_NAMES = tuple(REQUIRED)


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the repository with only these environment variables."""
    argv = [sys.executable, *arguments]
    return subprocess.CompletedProcess(argv, *completed(argv, cwd=ROOT, env={"PATH": os.environ["PATH"]} | environment))


def production(service: str) -> dict[str, str]:
    """The minimal environment of a service in production."""
    return {"DJANGO_SETTINGS_MODULE": f"settings.{service}", "SECRET_KEY": SECRET, "ALLOWED_HOSTS": service} | REQUIRED[
        service
    ]
