"""Runs generated code and says whether it passes its tests: the host's side of :mod:`modelyard.evals.sandbox.sandbox_runner`.

Execution follows HumanEval (Chen et al. 2021, section 2.3: an isolated process with a timeout), hardened: a success needs a fresh random
token that only the checker knows and prints after every test passed. Each verdict carries its isolation (``namespaces`` or the weaker
``audit``). Left out: other languages.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field

from modelyard.config import Config
from modelyard.evals.sandbox import sandbox_runner

RUNNER = Path(sandbox_runner.__file__)
GRACE_SECONDS = 2.0
OUTPUT_BYTES = 1 << 16


class Limits(Config):
    """What one program may use."""

    wall_seconds: float = Field(gt=0)
    """Real time for loading and all tests together."""
    cpu_seconds: int = Field(gt=0)
    """Processor time."""
    memory_bytes: int = Field(gt=0)
    """Address space."""
    file_bytes: int = Field(gt=0)
    """Largest file, and all files together where the program has its own file system."""
    processes: int = Field(gt=0)
    """RLIMIT_NPROC: the program and at most one more."""
    isolation: Literal["auto", "audit"] = "auto"
    """``auto``: namespaces where the kernel permits them. ``audit``: always the fallback."""


class Program(NamedTuple):
    """Untrusted code and the trusted code that judges it."""

    code: str
    """Untrusted; defines ``entry_point``."""
    entry_point: str
    """Name of the function under test."""
    setup: str
    """Trusted definitions that the tests use (HumanEval: the prompt)."""
    test: str
    """Trusted; defines ``check(candidate)``."""


class Verdict(NamedTuple):
    """What became of one program."""

    passed: bool
    reason: str
    isolation: str


def run_program(program: Program, limits: Limits) -> Verdict:
    """Run one program against its tests. Never raises because of what the program does."""
    token = secrets.token_hex(16)
    directory = tempfile.mkdtemp(prefix="sandbox-")
    os.chmod(directory, 0o755)
    job = {"token": token, "program": program.code, "entry_point": program.entry_point, "setup": program.setup, "test": program.test}
    argument = json.dumps({**limits.model_dump(), "directory": directory})
    command = [sys.executable, "-I", "-S", str(RUNNER), argument]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={}, cwd=directory, start_new_session=True
    )
    try:
        output, _ = process.communicate(json.dumps(job).encode(), timeout=limits.wall_seconds + GRACE_SECONDS)
        return _verdict(output[:OUTPUT_BYTES], token)
    except subprocess.TimeoutExpired:
        return Verdict(False, "timeout", "")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        shutil.rmtree(directory, ignore_errors=True)


def run_programs(programs: Sequence[Program], limits: Limits, workers: int = 2) -> list[Verdict]:
    """Run many, ``workers`` at a time, in order."""
    with ThreadPoolExecutor(max_workers=workers) as pool:
        return list(pool.map(lambda program: run_program(program, limits), programs))


def _verdict(output: bytes, token: str) -> Verdict:
    try:
        result = json.loads(output)
    except ValueError:
        return Verdict(False, "the checker was ended", "")
    passed = isinstance(result, dict) and secrets.compare_digest(str(result.get("token")), token)
    return Verdict(passed, "" if passed else str(result.get("reason")), str(result.get("isolation", "")))
