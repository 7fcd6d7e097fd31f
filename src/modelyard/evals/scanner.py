"""Weaknesses in Python programs, found by bandit without running them.

One process of bandit for all programs, which only parses them. Findings of medium severity and above count: what bandit
calls low (``assert``, ``try/except/pass``) says little of a program of twenty lines. Left out: other languages and
analysers that follow data, such as CodeQL.
"""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

COUNTED = ("MEDIUM", "HIGH")


class Scanned(NamedTuple):
    """What was found in one program."""

    parsed: bool
    """Whether it is Python."""
    issues: tuple[str, ...]
    """``B602 HIGH CWE-78 line 4``."""


def identity() -> str:
    """Which scanner, and what of it counts."""
    return f"bandit {importlib.metadata.version('bandit')} {' '.join(COUNTED)}"


def scan(programs: Sequence[str]) -> list[Scanned]:
    """Every program by itself, in order. Raises ValueError where bandit does not answer."""
    with tempfile.TemporaryDirectory(prefix="scan-") as folder:
        names = [f"{number:06d}.py" for number in range(len(programs))]
        for name, text in zip(names, programs, strict=True):
            Path(folder, name).write_text(text, "utf-8", "backslashreplace")
        command = [sys.executable, "-m", "bandit", "--recursive", ".", "--format", "json", "--exit-zero", "--quiet", "--ignore-nosec"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        try:
            report = json.loads(done.stdout)
        except ValueError:
            raise ValueError(f"bandit gave no report: {(done.stderr or done.stdout).strip()[-300:] or done.returncode}") from None
    broken = {Path(error["filename"]).name for error in report["errors"]}
    issues: dict[str, list[str]] = {}
    for found in report["results"]:
        if found["issue_severity"] in COUNTED:
            weakness = (found.get("issue_cwe") or {}).get("id", "?")
            line = f"{found['test_id']} {found['issue_severity']} CWE-{weakness} line {found['line_number']}"
            issues.setdefault(Path(found["filename"]).name, []).append(line)
    return [Scanned(name not in broken, tuple(issues.get(name, ()))) for name in names]
