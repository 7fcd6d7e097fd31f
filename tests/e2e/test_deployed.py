"""Deployments on a real Prefect server with a real work pool and worker: an event starts the line, and the worker completes it."""

import subprocess
import sys
import time

import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient

from modelyard.adapters.servers import prefect_server
from tests.e2e.running import ENVIRONMENT, ROOT, SMALLEST, aliases, copy, is_built

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]


def prefect(environment, *arguments: str) -> str:
    command = [sys.executable, "-m", "prefect", "--no-prompt", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def started_by_event(client: SyncPrefectClient) -> list:
    return [run for run in client.read_flow_runs() if not run.auto_scheduled]


def test_deployments_event_starts_the_line_and_a_worker_completes_it(finished, tmp_path):
    directory = copy(finished[0], tmp_path / "deployed", without=("policy", "results", "decision", "export"))
    home = directory / ".modelyard"
    declared = yaml.safe_load((ROOT / "infra/prefect.yaml").read_text())
    for deployment in declared["deployments"]:  # the same deployments, on the smallest config and a store of their own
        paths = [f"execution.store=file://{home}/store", f"execution.scratch={home}/scratch"]
        deployment["parameters"] = {"config": {"file": SMALLEST, "overrides": paths}}
    file = tmp_path / "prefect.yaml"
    file.write_text(yaml.safe_dump(declared))
    with prefect_server(home / "prefect") as server:
        environment = {**ENVIRONMENT, "PREFECT_API_URL": server.api, "PREFECT_HOME": str(home / "prefect"), "MODELYARD_HOME": str(home)}
        client = SyncPrefectClient(server.api)
        prefect(environment, "work-pool", "create", "--type", "process", "modelyard")
        prefect(environment, "deploy", "--all", "--prefect-file", str(file))
        assert [entry.schedule.cron for entry in client.read_deployment_by_name("pipeline/weekly").schedules] == ["0 3 * * 6"]
        prefect(environment, "event", "emit", "modelyard.data.landed", "--resource-id", "modelyard.data.inbox")
        deadline = time.monotonic() + 60
        while not (begun := started_by_event(client)):
            assert time.monotonic() < deadline, "the event started no run"
            time.sleep(0.2)
        said = prefect(environment, "worker", "start", "--pool", "modelyard", "--run-once", "--install-policy", "never")
        ended = started_by_event(client)
        assert [run.id for run in ended] == [run.id for run in begun], "one event, one run"
        assert ended[0].state.is_completed(), f"{ended[0].state} {said}"
    assert is_built(directory, "export")
    assert aliases(directory)["production"] == "1"
