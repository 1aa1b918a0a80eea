"""The metadata of a committed offset: what a consumer leaves for the one that has the partition next.

A JSON object. Kafka keeps 4,096 bytes with each offset (`offset.metadata.max.bytes`). Whatever else stands there, from
another tool or a version before, says nothing.
"""

from typing import Any

import orjson


def dump(said: dict[str, Any]) -> str:
    """The text of what is to be said; empty where that is nothing."""
    return orjson.dumps(said).decode() if said else ""


def load(metadata: str | None) -> dict[str, Any]:
    """What a consumer has said; empty where it said nothing that can be read."""
    try:
        said = orjson.loads(metadata or "{}")
    except orjson.JSONDecodeError:
        return {}
    return said if isinstance(said, dict) else {}
