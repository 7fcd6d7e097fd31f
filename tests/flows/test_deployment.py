"""A real Prefect server, a real work pool and worker: a deployed run completes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from modelyard.adapters.servers import prefect_server

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]


def prefect(environment, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_deployments_worker_completes_a_deployed_run(tmp_path):
    home = tmp_path / ".modelyard"
    with prefect_server(home / "prefect") as server:
        environment = {
            **os.environ,
            "PREFECT_API_URL": server.api,
            "PREFECT_HOME": str(home / "prefect"),
            "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
            "MLFLOW_TRACKING_URI": f"sqlite:///{home}/mlflow.db",
        }
        prefect(environment, "work-pool", "create", "--type", "process", "modelyard")
        prefect(environment, "deploy", "--all", "--prefect-file", "infra/prefect.yaml")
        listed = prefect(environment, "deployment", "inspect", "pipeline/weekly")
        assert "0 3 * * 6" in listed
        assert "modelyard.data.landed" in prefect(environment, "automation", "ls") + prefect(
            environment, "automation", "inspect", "new data"
        )
        config = (
            '{"file": "configs/pipeline/smallest.toml", "overrides": '
            f'["execution.store=file://{tmp_path}/store", "execution.scratch={tmp_path}/scratch"]}}'
        )
        prefect(environment, "deployment", "run", "data/data", "--params", f'{{"config": {config}}}')
        prefect(environment, "worker", "start", "--pool", "modelyard", "--run-once", "--install-policy", "never")
        states = prefect(environment, "flow-run", "ls", "--flow-name", "data", "--state-type", "COMPLETED", "-o", "json")
        assert [run["name"] for run in json.loads(states)] == ["data"]
    assert (tmp_path / "store" / "contamination").is_dir()
