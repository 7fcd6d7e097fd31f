"""Ids that rows bring along: each is told by 64 bits of its hash, and a row that has none of its own is set aside."""

from __future__ import annotations

import hashlib

from modelyard.data.sources.record import Broken, Record, value_at


def id_hash(name: str) -> int:
    """64 bits of an id."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])


def without_id(record: Record, source: str, field: str, seen: set[int]) -> Broken | None:
    """Why a row has no id of its own; None, and added to ``seen``, where it has one.

    Args:
        record: the row.
        source: name of its source.
        field: of the id.
        seen: :func:`id_hash` of the ids that were read before.
    """
    value = value_at(record.row, field)
    if value is None:
        return Broken(record.place, "read/no_id", f"no id in field {field!r}", "")
    try:
        key = id_hash(f"{source}/{value}")
    except UnicodeEncodeError:
        return Broken(record.place, "read/lone_surrogate", f"half of a surrogate pair in id {str(value)[:100]!r}", "")
    if key in seen:
        return Broken(record.place, "read/duplicate_id", f"id {str(value)[:100]!r} has been read before", "")
    seen.add(key)
    return None
