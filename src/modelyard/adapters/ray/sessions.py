"""The folders in which Ray keeps sockets and logs of a cluster on this machine: one a run, which Ray itself never removes.

A run removes its own when it ends well. Otherwise the logs stay for whoever asks why, until the next run of the same home begins and finds
that the process is gone. Ray's folder of all sessions is shared with everybody's Ray on this machine, so only those go that a run of this
home has noted.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import psutil

from modelyard.adapters.home import home, opened, private

NAME = re.compile(r"session_[\d_-]+_(?P<pid>\d+)")
"""Of a session's folder; its last number is the process that started the cluster."""


def note(session: Path) -> None:
    """Remember a session of this process."""
    opened()
    (private(_notes()) / session.name).write_text(str(session), "utf-8")


def remove(session: Path) -> None:
    """Remove a session's folder and forget it."""
    shutil.rmtree(session, ignore_errors=True)
    (_notes() / session.name).unlink(missing_ok=True)


def remove_left() -> None:
    """Remove the sessions of this home whose process is gone."""
    for noted in sorted(_notes().glob("session_*")):
        match, session = NAME.fullmatch(noted.name), Path(noted.read_text("utf-8"))
        if match and session.name == noted.name and not psutil.pid_exists(int(match["pid"])):
            remove(session)


def _notes() -> Path:
    return home() / "ray-sessions"
