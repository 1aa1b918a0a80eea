"""Runs `program` and parses its output."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]


@dataclass
class Output:
    """The output of a process."""

    answers: list[dict[str, Any]]
    spans: list[dict[str, Any]]
    lines: list[dict[str, Any]]
    stderr: str
    dropped: dict[str, float]
    """The lost spans, by reason."""


def run(requests: list[tuple[str, str, dict[str, str]]], **environment: str) -> Output:
    """Run the test service with these requests and environment variables."""
    done = python("-m", "tests.chassis.observability.program", json.dumps(requests), **environment)
    assert done.returncode == 0, done.stderr
    out = [json.loads(line) for line in done.stdout.splitlines()]
    as_json = environment.get("LOG_FORMAT", "json") == "json"
    return Output(
        answers=[line for line in out if "status" in line and "headers" in line],
        spans=[line for line in out if "context" in line],
        lines=[json.loads(line) for line in done.stderr.splitlines()] if as_json else [],
        stderr=done.stderr,
        dropped=next(line["dropped"] for line in out if "dropped" in line),
    )


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the repository, in a clean environment with these variables."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=clean_environment() | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def clean_environment() -> dict[str, str]:
    """The environment of this run, without variables that affect logs and traces."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OTEL_", "LOG_", "FORCE_COLOR", "NO_COLOR", "PROMETHEUS_", "COVERAGE"))
    }
