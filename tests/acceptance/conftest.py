"""Fixtures of the acceptance tests: those of `fixtures.py`, which the drills also use."""

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
