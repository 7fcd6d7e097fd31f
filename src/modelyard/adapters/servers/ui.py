"""``make ui``: the pages of this and earlier runs, a Prefect server and an MLflow server until interrupted.

Servers that the environment names (PREFECT_API_URL, an MLFLOW_TRACKING_URI of http) run elsewhere: then the addresses of their pages are said.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from modelyard.adapters.home import home, private
from modelyard.adapters.mlflow.server import tracking_uri
from modelyard.adapters.servers.prefect_server import AUTH, prefect_server
from modelyard.child_server import HOST, ServerError, die_with_parent, end, free_port, interruptible, wait_for
from modelyard.complaint import showable, without_password

MLFLOW_PORT = 5000


def named_pages() -> str:
    """What runs use in the servers' place when the environment names both, a line each; empty where it does not."""
    prefect, mlflow = os.environ.get("PREFECT_API_URL", ""), tracking_uri()
    if not prefect or not mlflow.startswith("http"):
        return ""
    return showable(f"Prefect  {prefect.removesuffix('/api')}\nMLflow   {mlflow}\n")


def show(prefect_home: Path, mlflow_uri: str) -> int:
    """Both servers, until interrupted; the exit code. Raises ServerError."""
    interruptible()
    port = free_port(MLFLOW_PORT)
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        HOST,
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    log = prefect_home.parent / "mlflow-server.log"
    private(log.parent)
    with open(log, "ab") as output:
        # its job runner outlives the server; the URI may hold a password, which a list of processes must not show
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_BACKEND_STORE_URI": mlflow_uri}
        mlflow = subprocess.Popen(command, stdout=output, stderr=output, env=environment, preexec_fn=die_with_parent)
    try:
        with prefect_server(prefect_home) as prefect:
            wait_for(f"http://{HOST}:{port}/health", mlflow, log, "MLflow server")
            sys.stdout.write(showable(f"Prefect  {prefect.page}  asks for what {prefect_home / AUTH} holds\n"))
            sys.stdout.write(f"MLflow   http://{HOST}:{port}\nCtrl-C ends both.\n")
            sys.stdout.flush()
            return mlflow.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        end(mlflow)


def open_pages() -> int:
    """Start both servers until interrupted, or say where their pages are; the exit code. Raises ServerError."""
    uri = tracking_uri()
    if pages := named_pages():
        sys.stdout.write(pages)
        return 0
    if uri.startswith("http"):
        raise ServerError(f"MLFLOW_TRACKING_URI {without_password(uri)} is a server, whose pages are there; PREFECT_API_URL is not set")
    return show(home() / "prefect", uri)
