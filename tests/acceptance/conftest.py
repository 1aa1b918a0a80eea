"""What every acceptance test has: `fixtures.py`, which the drills use too."""

from tests.acceptance.fixtures import (
    STAND,
    kafka,
    postgres,
    pytest_runtest_makereport,
    raw,
    stand,
    system,
    topics,
    visitors,
)

__all__ = ["STAND", "kafka", "postgres", "pytest_runtest_makereport", "raw", "stand", "system", "topics", "visitors"]
