"""Runs generated code and says whether it passes its tests: the host's side of :mod:`modelyard.judges.sandbox.sandbox_runner`.

Execution follows HumanEval (Chen et al. 2021, section 2.3: an isolated process with a timeout), hardened: a success needs a fresh random
token that only the checker knows and prints after every test passed. Each verdict carries the isolation that the program ran in,
``namespaces+seccomp`` or what was asked for in its place; where that cannot be had, nothing runs. Left out: other languages.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field

from modelyard.config import Config
from modelyard.judges.sandbox import sandbox_runner, seccomp

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
    """Address space of each process. No memory is shared beside it, so shared memory counts."""
    file_bytes: int = Field(gt=0)
    """Largest file, and all files together where the program has its own file system."""
    processes: int = Field(gt=0)
    """RLIMIT_NPROC: the program and at most one more."""
    isolation: Literal["namespaces", "seccomp", "available"] = "namespaces"
    """``namespaces``: a world of its own and a filter of system calls, or nothing is run. ``seccomp``: the filter alone, for machines
    that give no namespaces: programs write nothing, but can read what the user can read. ``available``: namespaces where this machine gives
    them, else the filter alone, for models whose programs harm nobody."""


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


DEFINED = re.compile(r"^def\s+(\w+)", re.MULTILINE)
"""Functions at the top of a program."""


def of_asserts(code: str, defined: str, asserts: str, setup: str = "") -> Program | None:
    """``code`` judged by assert statements that call, by its name, the last such function of ``defined`` (MBPP's form); None where they call
    none of its functions."""
    name = next((name for name in reversed(DEFINED.findall(defined)) if re.search(rf"\b{name}\s*\(", asserts)), None)
    if name is None:
        return None
    return Program(code, name, setup, "def check(candidate):\n" + "\n".join(f"    {line}" for line in asserts.split("\n")) + "\n")


class Verdict(NamedTuple):
    """What became of one program."""

    passed: bool
    reason: str
    isolation: str
    """``namespaces+seccomp`` or ``seccomp``; "" where it never ran."""


def run_program(program: Program, limits: Limits) -> Verdict:
    """Run one program against its tests. Never raises because of what the program does."""
    limits = resolved(limits)
    token = secrets.token_hex(16)
    directory = tempfile.mkdtemp(prefix="sandbox-")
    os.chmod(directory, 0o755)
    job = {"token": token, "program": program.code, "entry_point": program.entry_point, "setup": program.setup, "test": program.test}
    compiled = seccomp.program(limits.isolation == "namespaces")
    argument = json.dumps({**limits.model_dump(), "directory": directory, "filter": compiled.hex()})
    command = [sys.executable, "-I", "-S", str(RUNNER), argument]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={}, cwd=directory, start_new_session=True
    )
    try:
        output, _ = process.communicate(json.dumps(job).encode(), timeout=limits.wall_seconds + GRACE_SECONDS)
        return _verdict(output[:OUTPUT_BYTES], token)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        return Verdict(False, "timeout", _verdict(output[:OUTPUT_BYTES], token).isolation)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        shutil.rmtree(directory, ignore_errors=True)


def run_programs(programs: Sequence[Program], limits: Limits, workers: int = 2) -> list[Verdict]:
    """Run many, ``workers`` at a time, in order. Raises ValueError where :func:`require` does, before any of them."""
    require(limits)
    with ThreadPoolExecutor(max_workers=workers) as pool:
        return list(pool.map(lambda program: run_program(program, limits), programs))


PROBE = "import heapq, random, statistics\ndef f():\n    return 1\n"
"""What a right program may do at least."""


@cache
def resolved(limits: Limits) -> Limits:
    """The limits with the isolation that ``available`` means on this machine."""
    if limits.isolation != "available":
        return limits
    with contextlib.suppress(ValueError):
        require(strongest := limits.model_copy(update={"isolation": "namespaces"}))
        return strongest
    return limits.model_copy(update={"isolation": "seccomp"})


@cache
def require(limits: Limits) -> None:
    """Raise ValueError unless this machine gives the isolation that ``limits`` names."""
    probe = run_program(Program(PROBE, "f", "", "def check(f):\n    assert f() == 1\n"), limits)
    if not probe.passed and "ModuleNotFoundError" in probe.reason:
        library = sysconfig.get_path("stdlib")
        raise ValueError(
            f"generated code is not run here, isolation {limits.isolation!r}: {probe.reason}; {library} cannot be read by another user. "
            "Run as another user than root, or with an interpreter that everybody may read"
        )
    if not probe.passed:
        other = "; sandbox.isolation = 'seccomp' (--isolation seccomp) runs them without" if limits.isolation == "namespaces" else ""
        raise ValueError(f"generated code is not run here, isolation {limits.isolation!r} cannot be had: {probe.reason}{other}")


def _verdict(output: bytes, token: str) -> Verdict:
    isolation, reason, passed = "", "the checker was ended", False
    for line in output.splitlines():
        try:
            said = json.loads(line)
        except ValueError:
            break
        if "isolation" in said:
            isolation = str(said["isolation"])
        else:
            passed = secrets.compare_digest(str(said.get("token")), token)
            reason = "" if passed else str(said.get("reason"))
    return Verdict(passed, reason, isolation)
