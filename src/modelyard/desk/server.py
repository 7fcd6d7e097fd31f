"""The desk's server: it listens, says where, and ends on an interrupt."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

LAST_SECONDS = 5


def run(app: FastAPI, host: str, port: int, say: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM. Raises OSError where nobody can listen at ``host`` and ``port``."""
    listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    shown = f"[{host}]" if ":" in host else host
    say(f"desk at http://{shown}:{listener.getsockname()[1]}; Ctrl-C ends it")
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    config = uvicorn.Config(app, access_log=False, log_level="warning", timeout_graceful_shutdown=LAST_SECONDS, server_header=False)
    config.proxy_headers = False  # a proxy's X-Forwarded-For is nobody's word for who is asked from
    try:
        uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:  # uvicorn passes on the signal that it obeyed
        return
    finally:
        listener.close()
