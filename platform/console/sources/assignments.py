"""The partitions of a member of a consumer group, from the bytes with which Kafka's classic protocol describes them."""

import struct

Partitions = tuple[tuple[str, int], ...]


def decode(assignment: bytes) -> Partitions:
    """Topic and number of each assigned partition, sorted; empty if the bytes are not of that protocol."""
    try:
        return tuple(sorted(_decode(assignment)))
    except (struct.error, UnicodeDecodeError, ValueError):
        return ()


def _decode(data: bytes) -> list[tuple[str, int]]:
    """`version topics*(name numbers*)`: counts and numbers of 4 bytes, the length of a name of 2, all big endian."""
    found = []
    _, topics = struct.unpack_from(">hi", data)
    at = 6
    for _ in range(topics):
        (length,) = struct.unpack_from(">h", data, at)
        name = data[at + 2 : at + 2 + length].decode()
        at += 2 + length
        (count,) = struct.unpack_from(">i", data, at)
        if not 0 <= count <= len(data):
            raise ValueError(count)
        found += [(name, number) for number in struct.unpack_from(f">{count}i", data, at + 4)]
        at += 4 + 4 * count
    return found
