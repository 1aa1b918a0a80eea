"""The metadata of a committed offset, with which a consumer informs the next owner of the partition.

It is a JSON object. Kafka stores up to 4,096 bytes with each offset (`offset.metadata.max.bytes`). Anything else, from another
tool or an earlier version, is ignored.
"""

from typing import Any

import orjson


def dump(values: dict[str, Any]) -> str:
    """Encode values as metadata; empty if there are none."""
    return orjson.dumps(values).decode() if values else ""


def load(metadata: str | None) -> dict[str, Any]:
    """Decode metadata; empty if there is none, or if it has another format."""
    try:
        values = orjson.loads(metadata or "{}")
    except orjson.JSONDecodeError:
        return {}
    return values if isinstance(values, dict) else {}
