"""What every acceptance test has: `fixtures.py`, which the drills use too."""

from tests.acceptance.fixtures import (
    HARNESS,
    harness,
    kafka,
    postgres,
    pytest_runtest_makereport,
    raw,
    system,
    topics,
    visitors,
)

__all__ = [
    "HARNESS",
    "harness",
    "kafka",
    "postgres",
    "pytest_runtest_makereport",
    "raw",
    "system",
    "topics",
    "visitors",
]
