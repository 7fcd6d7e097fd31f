"""A web application's life on a machine: it listens, says where, and on an interrupt answers what it took in before it goes."""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Callable
from typing import Any

import uvicorn

from modelyard.child_server import ServerError


def listen(app: Any, host: str, port: int, told: Callable[[str], None], last_seconds: int) -> None:
    """Serve ``app`` until SIGINT or SIGTERM; answers under way then have ``last_seconds``. ``told`` gets the address.

    Raises OSError where nobody can listen at ``host``, ServerError where somebody does at ``port``.
    """
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise ServerError(f"port {port} of {host} is in use; take another with --port (0: any that is free)") from None
    shown = f"[{host}]" if ":" in host else host
    told(f"http://{shown}:{listener.getsockname()[1]}")
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    config = uvicorn.Config(
        app, access_log=False, log_level="warning", timeout_graceful_shutdown=last_seconds, proxy_headers=False, server_header=False
    )
    try:
        uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:  # uvicorn passes on the signal that it obeyed
        return
    finally:
        listener.close()
