"""A server that decodes for ours, such as vLLM, as a child process on loopback."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from modelyard.adapters.home import ServerError
from modelyard.adapters.servers.child import HOST, die_with_parent, end, free_port, wait_for


@contextmanager
def started_engine(command: str, model: Path, log: Path) -> Iterator[str]:
    """Start ``command DIRECTORY --host HOST --port PORT``; yields the address up to ``/v1`` once ``/health`` answers, and ends it.

    Raises ServerError, which names ``log``, where it does not start.
    """
    port = free_port(0)
    words = [*shlex.split(command), str(model), "--host", HOST, "--port", str(port)]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as said:
        try:
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=said, stderr=said, preexec_fn=die_with_parent)
        except (OSError, IndexError) as error:
            raise ServerError(f"--engine {command!r}: {error}") from None
    try:
        wait_for(f"http://{HOST}:{port}/health", process, log, command)
        yield f"http://{HOST}:{port}/v1"
    finally:
        end(process)
