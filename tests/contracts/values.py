"""Common values of the contracts."""

import uuid
from datetime import UTC, datetime

NOW = datetime(2026, 1, 2, 3, 4, 5, 678900, tzinfo=UTC)
NOW_ON_THE_WIRE = "2026-01-02T03:04:05.678900Z"
ID = uuid.UUID("00000000-0000-4000-8000-000000000001")
