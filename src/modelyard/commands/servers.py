"""``modelyard ui`` and ``modelyard services``: servers that run until interrupted."""

from __future__ import annotations

import time
from enum import StrEnum
from typing import Annotated

import typer

from modelyard.adapters.servers.ports import PORTS
from modelyard.commands.command import say

ServiceName = StrEnum("ServiceName", ["s3", "postgresql", "mlflow", "prefect", "ray"])
ONLY = typer.Option(help="Start these; without it, all.")


def ui() -> int:
    """Show the pages of this and earlier runs: a Prefect server and an MLflow server, until interrupted.

    Servers that PREFECT_API_URL and MLFLOW_TRACKING_URI name run elsewhere: then the addresses of their pages are printed.
    """
    from modelyard.adapters.servers.ui import open_pages

    return open_pages()


def services(
    only: Annotated[list[ServiceName] | None, ONLY] = None,
    s3_port: Annotated[int, typer.Option()] = PORTS["s3"],
    postgresql_port: Annotated[int, typer.Option()] = PORTS["postgresql"],
    mlflow_port: Annotated[int, typer.Option()] = PORTS["mlflow"],
    prefect_port: Annotated[int, typer.Option()] = PORTS["prefect"],
    ray_port: Annotated[int, typer.Option()] = PORTS["ray"],
    dashboard_port: Annotated[int, typer.Option()] = PORTS["dashboard"],
) -> None:
    """Run SeaweedFS (S3), PostgreSQL, MLflow, Prefect and a Ray head on loopback, until interrupted."""
    from modelyard.adapters.home import opened
    from modelyard.adapters.servers import services as running_services
    from modelyard.child_server import HOST, interruptible

    names = [str(name) for name in only or ServiceName]
    ports = dict(zip(PORTS, (s3_port, postgresql_port, mlflow_port, prefect_port, ray_port, dashboard_port), strict=True))
    interruptible()
    try:
        with running_services.running(opened() / "services", names, ports, say) as (yard, revive):
            for name in names:
                say(f"{name:<11} {HOST}:{yard.ports[name]}  log {yard.log(name)}")
            say(f"addresses   . {yard.directory / 'addresses'}\nCtrl-C ends all.")
            while True:
                time.sleep(running_services.POLL_SECONDS)
                revive()
    except KeyboardInterrupt:
        return
