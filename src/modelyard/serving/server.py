"""The server's life: it listens, says where, and on an interrupt answers what it took in before it goes."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable

import uvicorn

from modelyard.serving.app import application
from modelyard.serving.conversation import Serving

LAST_SECONDS = 30
"""How long answers under way may take when the server is told to go."""


def run(serving: Serving, host: str, port: int, say: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM. Raises OSError where nobody can listen at ``host`` and ``port``."""
    current = serving.current
    listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{listener.getsockname()[1]}"
    weights = current.model.fingerprint if current.model else "nothing released"
    say(f"{current.name} ({weights}): chat at {address}, API at {address}/v1; Ctrl-C ends it")
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    config = uvicorn.Config(application(serving), access_log=False, log_level="warning", timeout_graceful_shutdown=LAST_SECONDS)
    try:
        uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:  # uvicorn passes on the signal that it obeyed
        return
    finally:
        listener.close()
        current.close()
        if serving.beside:
            serving.beside.current.close()
