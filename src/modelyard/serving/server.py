"""The server's life: it listens, says where, and on an interrupt answers what it took in before it goes."""

from __future__ import annotations

from collections.abc import Callable

from modelyard.serving.app import application
from modelyard.serving.conversation import Serving
from modelyard.serving.listening import listen

LAST_SECONDS = 30
"""How long answers under way may take when the server is told to go."""


def run(serving: Serving, host: str, port: int, say: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM. Raises OSError where nobody can listen at ``host`` and ``port``."""
    current = serving.current
    weights = current.model.fingerprint if current.model else "nothing released"

    def told(address: str) -> None:
        say(f"{current.name} ({weights}): chat at {address}, API at {address}/v1; Ctrl-C ends it")

    try:
        listen(application(serving), host, port, told, LAST_SECONDS)
    finally:
        current.close()
        if serving.beside:
            serving.beside.current.close()
