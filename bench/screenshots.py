"""Pictures of what a person sees of a finished line: its run and one stage's page in Prefect, its curves in MLflow. Needs Chromium.

``python -m bench.screenshots HOME OUT`` shows the line that ``HOME`` (``.modelyard``) holds, as ``make ui`` does. Left out: signing in, which
Prefect's pages ask for before they show anything.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from mlflow import MlflowClient
from prefect.client.orchestration import SyncPrefectClient

from bench.program import program
from modelyard.adapters.servers.prefect_server import auth_string

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
SIZE = "1400,1000"
SETTLE_MILLISECONDS = 20_000
START_SECONDS = 240


@contextmanager
def shown(home: Path) -> Iterator[tuple[str, str]]:
    """Addresses of Prefect and MLflow on ``home``."""
    environment = {**os.environ, "MODELYARD_HOME": str(home), "PYTHONUNBUFFERED": "1"}
    servers = subprocess.Popen([sys.executable, "-m", "modelyard", "ui"], env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert servers.stdout is not None
        said = [servers.stdout.readline() for _ in range(2)]
        found = re.findall(r"http://\S+", "".join(said))
        if len(found) != 2:
            raise RuntimeError(f"the servers did not start: {said}")
        yield found[0], found[1]
    finally:
        servers.terminate()
        servers.wait()


def take(browser: str, url: str, file: Path) -> None:
    """A picture of ``url`` once its scripts have settled."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--user-data-dir={profile}",
            f"--window-size={SIZE}",
        ]
        command = [browser, *options, f"--virtual-time-budget={SETTLE_MILLISECONDS}", f"--screenshot={file}", url]
        subprocess.run(command, check=True, capture_output=True, timeout=START_SECONDS)


def main(
    home: Annotated[Path, typer.Argument(help="Directory of a finished line, such as .modelyard.")],
    out: Annotated[Path, typer.Argument(help="Directory of the pictures.")],
) -> int:
    """Take them all; prints each file and address."""
    home = home.absolute()
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        sys.stderr.write(f"no browser found (looked for {', '.join(BROWSERS)})\n")
        return 1
    out.mkdir(parents=True, exist_ok=True)
    with shown(home) as (prefect, mlflow):
        client = SyncPrefectClient(f"{prefect}/api", auth_string=auth_string(home / "prefect"))
        run = max(client.read_flow_runs(), key=lambda found: str(found.created))
        pages = {found.key: found for found in client.read_latest_artifacts()}
        tracker = MlflowClient(mlflow)
        experiment = next(found for found in tracker.search_experiments() if found.name != "Default")
        base = next(found for found in tracker.search_runs([experiment.experiment_id]) if found.data.tags.get("stage") == "base")
        addresses = {
            "prefect-run": f"{prefect}/runs/flow-run/{run.id}",
            "prefect-stage": f"{prefect}/artifacts/artifact/{pages['base'].latest_id}",
            "prefect-artifacts": f"{prefect}/artifacts",
            "mlflow-runs": f"{mlflow}/#/experiments/{experiment.experiment_id}/runs",
            "mlflow-base": f"{mlflow}/#/experiments/{experiment.experiment_id}/runs/{base.info.run_id}/model-metrics",
        }
        for name, url in addresses.items():
            started = time.monotonic()
            take(browser, url, out / f"{name}.png")
            sys.stdout.write(f"{out / name}.png  {url}  {time.monotonic() - started:.0f} s\n")
    return 0


if __name__ == "__main__":
    sys.exit(program(main))
