"""Memory that the control groups of this process leave it: those of a container, a service or a job of a scheduler.

The machine's own figures say nothing of them, and a process that goes beyond is killed. Both versions are read, and every group above this
process's, since each may have a limit. Left out: swap, and limits that slow a process down (``memory.high``).
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

MOUNT = Path("/sys/fs/cgroup")
"""Where Linux shows groups."""
MINE = Path("/proc/self/cgroup")
"""The groups of this process, one a line: number, controllers, path."""


class _Version(NamedTuple):
    limit: str
    usage: str
    files: tuple[str, str]
    """Lines of ``memory.stat``: pages of files count as used, and the kernel drops them before it kills."""


_FIRST = _Version("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_inactive_file", "total_active_file"))
_SECOND = _Version("memory.max", "memory.current", ("inactive_file", "active_file"))


def memory_left() -> int | None:
    """Bytes that may be taken before the tightest limit; None where no group has one."""
    found = list[int]()
    for line in MINE.read_text().splitlines() if MINE.is_file() else ():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            version, root = _FIRST, MOUNT / "memory"
        elif not controllers:
            version, root = _SECOND, MOUNT
        else:
            continue
        group = root / path.lstrip("/")  # in a container the path may be the host's, and only the root be there
        groups = (one for one in (group, *group.parents) if one.is_relative_to(root))
        found += [left for one in groups if (left := _left(one, version)) is not None]
    return min(found, default=None)


def _left(group: Path, version: _Version) -> int | None:
    try:
        limit, usage = (int((group / name).read_text()) for name in (version.limit, version.usage))
        counts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # it is not shown here, or its limit is "max"
        return None
    return max(0, limit - usage + sum(int(counts.get(name, 0)) for name in version.files))
