"""What each service must find in its environment in production, and how to run it with that and nothing else."""

import os
import subprocess
import sys
from pathlib import Path

import services

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
    """Run our Python in the repository with this environment and nothing else."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def production(service: str) -> dict[str, str]:
    """The least that a service needs in production."""
    return {"DJANGO_SETTINGS_MODULE": f"settings.{service}", "SECRET_KEY": SECRET, "ALLOWED_HOSTS": service} | REQUIRED[
        service
    ]
