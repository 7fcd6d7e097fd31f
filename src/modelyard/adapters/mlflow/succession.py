"""Which versions of a registered model were in production one after another, by the opponent that each remembers.

Numbers say when a version was registered, which may be long before it was promoted, or without that it ever was. A version is promoted
against what is in production, so the opponents lead back from one to the one whose place it took.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def before(policy: str, versions: Sequence[Any], serving: Any, rolled_back: str) -> list[Any]:
    """The versions that were in production before the one with the weights ``policy`` was, the oldest first; where that one never was, all that
    led to the one ``serving`` now, with it.

    ``versions``: all (MLflow's ModelVersion). ``rolled_back``: the tag of one that was taken out of production. One that somebody registered by
    hand remembers no opponent and counts as none of them.
    """
    known: dict[str, Any] = {}
    for version in versions:
        known.setdefault(version.tags.get("policy", ""), version)
    led = _back_from(serving, known) if serving is not None else []
    own = known.get(policy)
    if own is not None and (rolled_back in own.tags or own.version in {one.version for one in led}):
        led = _back_from(own, known)[1:]
    return led[::-1]


def _back_from(version: Any, known: dict[str, Any]) -> list[Any]:
    """``version``, the one that it replaced, and so on: the first that replaced nothing is the last."""
    line: dict[str, Any] = {}
    while version is not None and "opponent" in version.tags and version.version not in line:
        line[version.version] = version
        version = known.get(version.tags["opponent"])
    return list(line.values())
