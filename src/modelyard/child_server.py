"""Servers as child processes on loopback: whether one answers, that it ends with its parent, and how it is ended.

:func:`started_engine` starts one that decodes in our place, such as vLLM.
"""

from __future__ import annotations

import ctypes
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

HOST = "127.0.0.1"
START_SECONDS, END_SECONDS = 300.0, 10.0
PR_SET_PDEATHSIG = 1


class ServerError(RuntimeError):
    """A server that did not start, or gave no answer that can be used; one line, which names its log where it has one."""


def free_port(preferred: int) -> int:
    """``preferred`` if nobody listens there, else one the system picks."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise ServerError(f"no free port on {HOST}")


def wait_for(
    url: str,
    process: subprocess.Popen[bytes],
    log: Path,
    what: str,
    seconds: float = START_SECONDS,
    beat: Callable[[], None] = lambda: None,
) -> None:
    """Wait until ``url`` answers, calling ``beat`` meanwhile. Raises ServerError, which names ``log``, when ``process`` ends or takes longer than
    ``seconds``."""
    deadline = time.monotonic() + seconds
    while not healthy(url):
        if process.poll() is not None or time.monotonic() > deadline:
            raise ServerError(f"{what} did not start; see {log}")
        beat()
        time.sleep(0.1)


def healthy(url: str, token: str = "") -> bool:
    """Whether ``url`` answers 200, asked with ``token`` where there is one."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with opener.open(request, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def interruptible() -> None:
    """In a program that holds servers: SIGTERM and SIGINT raise KeyboardInterrupt, also where a shell's background has made it deaf to SIGINT."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)


def die_with_parent() -> None:
    """In a child: get SIGTERM when the parent dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def end(process: subprocess.Popen[bytes]) -> None:
    """Terminate, and kill what does not listen."""
    process.terminate()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def end_group(process: subprocess.Popen[bytes]) -> None:
    """As :func:`end`, of a process that leads a group of its own and of all that belong to it."""
    deadline, ended = time.monotonic() + END_SECONDS, signal.SIGTERM
    with suppress(ProcessLookupError):  # nobody is left
        while True:
            os.killpg(process.pid, ended)
            while time.monotonic() < deadline:
                process.poll()  # one that has ended would count as there until it is asked for
                os.killpg(process.pid, 0)
                time.sleep(0.05)
            deadline, ended = time.monotonic() + END_SECONDS, signal.SIGKILL
    process.wait()


def search_path(environment: Mapping[str, str] | None = None) -> str:
    """Where programs are looked for: beside this interpreter first, as in an environment that is activated, then along ``PATH``."""
    along = (os.environ if environment is None else environment).get("PATH", os.defpath)
    return f"{Path(sys.executable).parent}{os.pathsep}{along}"


@contextmanager
def started_engine(
    command: str,
    model: Path,
    log: Path,
    environment: Mapping[str, str] | None = None,
    *,
    seconds: float = START_SECONDS,
    beat: Callable[[], None] = lambda: None,
) -> Iterator[str]:
    """Start ``command DIRECTORY --host HOST --port PORT``; yields the address up to ``/v1`` once ``/health`` answers, and ends it and what it
    started.

    ``environment``: its variables; absent: ours. The program is looked for as :func:`search_path` says. ``seconds``, ``beat``: see
    :func:`wait_for`. What it says is added to ``log``. Raises ServerError, which names ``log``, where it does not start.
    """
    port = free_port(0)
    words = [*shlex.split(command), str(model), "--host", HOST, "--port", str(port)]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as said:
        try:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                preexec_fn=die_with_parent,
                start_new_session=True,
                env={**(os.environ if environment is None else environment), "PATH": search_path(environment)},
            )
        except (OSError, IndexError) as error:
            raise ServerError(f"{command!r}: {error}") from None
    try:
        wait_for(f"http://{HOST}:{port}/health", process, log, command, seconds, beat)
        yield f"http://{HOST}:{port}/v1"
    finally:
        end_group(process)
