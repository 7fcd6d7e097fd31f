"""Deployments on a real Prefect server with a real work pool and worker: by an event, on a schedule, cancelled, and paused for a person."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import psutil
import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName
from prefect.flow_runs import resume_flow_run
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from prefect.states import Cancelling

from modelyard.adapters.servers.prefect_server import prefect_server
from tasks.deployment import make_pools
from tasks.image import with_image
from tests.e2e.killing import orphans
from tests.e2e.running import ENVIRONMENT, ROOT, SMALLEST, STAGES, aliases, artifact, copy, is_built

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]


def prefect(environment, *arguments: str) -> str:
    command = [sys.executable, "-m", "prefect", "--no-prompt", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Yard:
    """A finished line's copy, the project's deployments on it, a server and a worker."""

    def __init__(self, directory, server, environment) -> None:
        self.directory, self.environment = directory, environment
        self.client = SyncPrefectClient(server.api, auth_string=server.auth)

    def run(self, deployment: str, **parameters):
        return self.client.create_flow_run_from_deployment(self.client.read_deployment_by_name(deployment).id, parameters=parameters)

    def of(self, deployment: str) -> list:
        chosen = DeploymentFilter(name=DeploymentFilterName(any_=[deployment]))
        return [
            run
            for run in self.client.read_flow_runs(deployment_filter=chosen)
            if run.state.type.value != "SCHEDULED" or not run.auto_scheduled
        ]

    def wait(self, deployment: str, reached, seconds: float = 300):
        """The one run of ``deployment`` when its state is ``reached``."""
        deadline = time.monotonic() + seconds
        while True:
            runs = self.of(deployment)
            if runs and reached(runs[0].state):
                assert len(runs) == 1, [run.state for run in runs]
                return runs[0]
            assert time.monotonic() < deadline, (deployment, [str(run.state) for run in runs], self.worker_log())
            time.sleep(0.3)

    def worker_log(self) -> str:
        return (self.directory / "worker.log").read_text()[-4000:]


@contextmanager
def yard(directory, tmp_path, *overrides: str, watching: bool = False):
    home = directory / ".modelyard"
    declared = with_image(yaml.safe_load((ROOT / "infra/prefect.yaml").read_text()), f"modelyard@sha256:{'0' * 64}")
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    for deployment in declared["deployments"]:  # the same deployments, on the smallest config and a store of their own
        paths = [f"execution.store=file://{home}/store", f"execution.scratch={home}/scratch"]
        deployment["parameters"]["config"] = {"file": SMALLEST, "overrides": [*paths, *overrides]}
        if "inbox" in deployment["parameters"]:
            deployment["parameters"]["inbox"] = f"{inbox}/*"
        for schedule in deployment.get("schedules", []):
            if schedule["slug"] == "watch":
                schedule |= {"interval": 20, "active": watching}
    file = tmp_path / "prefect.yaml"
    file.write_text(yaml.safe_dump(declared))
    with prefect_server(home / "prefect") as server:
        environment = {
            **ENVIRONMENT,
            "PREFECT_API_URL": server.api,
            "PREFECT_API_AUTH_STRING": server.auth,
            "PREFECT_HOME": str(home / "prefect"),
            "MODELYARD_HOME": str(home),
            "PREFECT_WORKER_QUERY_SECONDS": "1",
        }
        with temporary_settings({PREFECT_API_URL: server.api, PREFECT_API_AUTH_STRING: server.auth}):
            asyncio.run(make_pools())
            asyncio.run(make_pools())  # what is there stays
        prefect(environment, "deploy", "--all", "--prefect-file", str(file))
        with open(directory / "worker.log", "w") as log:
            command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "modelyard", "--install-policy", "never"]
            worker = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            with temporary_settings({PREFECT_API_URL: server.api, PREFECT_API_AUTH_STRING: server.auth}):
                yield Yard(directory, server, environment), inbox
        finally:
            dismiss(worker)


def dismiss(worker: subprocess.Popen) -> None:
    """End the worker once its flow runs' processes are gone: told to stop while one ends, it waits for ever."""
    deadline = time.monotonic() + 60
    while psutil.Process(worker.pid).children() and time.monotonic() < deadline:
        time.sleep(0.2)
    os.killpg(worker.pid, signal.SIGTERM)
    try:
        worker.wait(30)
    except subprocess.TimeoutExpired:
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()


@pytest.mark.slow
def test_deployment_started_by_an_event_is_completed_by_a_worker_that_finds_every_stage(finished, tmp_path):
    directory = copy(finished[0], tmp_path / "event", without=("decision", "export"))
    with yard(directory, tmp_path, f"execution.checkpoint_store=file://{tmp_path}/checkpoints") as (there, _):
        prefect(there.environment, "event", "emit", "modelyard.data.version", "--resource-id", "modelyard.corpus.smallest")
        line = there.wait("weekly", lambda state: state.is_final())
        assert line.state.is_completed(), f"{line.state} {there.worker_log()}"
    assert is_built(directory, "export")
    for stage in STAGES[:-2]:  # one manifest, the run's before
        assert artifact(directory, stage) == artifact(finished[0], stage)
    assert aliases(directory)["production"] == "1"


@pytest.mark.slow
def test_deployments_a_landed_file_leads_to_new_data_and_that_to_a_promoted_model(finished, tmp_path):
    directory = copy(finished[0], tmp_path / "deployed", without=("contamination", "policy", "results", "decision", "export"))
    with yard(directory, tmp_path, watching=True) as (there, inbox):
        for name, cron in (("pipeline/weekly", "0 3 * * 6"), ("evals/nightly", "0 1 * * *")):
            assert [entry.schedule.cron for entry in there.client.read_deployment_by_name(name).schedules] == [cron]
        (inbox / "new.jsonl").write_text("{}")  # seen by the scheduled watch, which announces it
        there.wait("data", lambda state: not state.is_scheduled())
        there.client.pause_deployment(there.client.read_deployment_by_name("watch/watch").id)  # each look is a process
        there.wait("data", lambda state: state.is_completed())
        line = there.wait("weekly", lambda state: state.is_final())
        assert line.state.is_completed(), f"{line.state} {there.worker_log()}"
        assert there.of("watch")
        assert not there.of("release"), "nothing was held"
        pages = {found.key: found for found in there.client.read_latest_artifacts()}
        assert {"policy", "policy-progress", "results", "gates", "stages", "corpus"} <= set(pages)
        assert "[MLflow run](http" in pages["policy"].data
        assert "data:image/svg+xml" in pages["policy"].data
        assert float(pages["policy-progress"].data) == 100
    assert is_built(directory, "export")
    assert aliases(directory)["production"] == "1"


@pytest.mark.slow
def test_deployment_cancelled_stops_and_leaves_nothing_running(finished, tmp_path):
    directory = copy(finished[0], tmp_path / "cancelled", without=("policy", "results", "decision", "export"))
    with yard(directory, tmp_path, "policy.iterations=4000", "execution.checkpoint_iterations=2") as (there, _):
        run = there.run("pipeline/weekly")
        deadline = time.monotonic() + 240
        while not list((directory / ".modelyard/scratch").glob("policy-*/checkpoints/*/step_*")):
            assert time.monotonic() < deadline, there.worker_log()
            time.sleep(0.3)
        there.client.set_flow_run_state(run.id, Cancelling())
        there.wait("weekly", lambda state: state.is_cancelled())
    assert not is_built(directory, "policy")
    assert not orphans(directory)


@pytest.mark.slow
def test_deployment_waits_for_a_signature_and_nightly_measures_what_serves(finished, tmp_path):
    directory = copy(finished[0], tmp_path / "paused", without=("decision", "export"))
    with yard(directory, tmp_path, "release.sign_off_minutes=10") as (there, _):
        there.run("pipeline/release")
        paused = there.wait("release", lambda state: state.is_paused() or state.is_final())
        assert paused.state.is_paused(), f"{paused.state} {there.worker_log()}"
        resume_flow_run(paused.id, run_input={"decision": "PROMOTE", "name": "Ada", "reason": "read it", "red_team_findings": ""})
        done = there.wait("release", lambda state: state.is_final())
        assert done.state.is_completed(), f"{done.state} {there.worker_log()}"
        there.run("evals/nightly")
        assert there.wait("nightly", lambda state: state.is_final()).state.is_completed(), there.worker_log()
    assert is_built(directory, "sign_off")
    assert is_built(directory, "baseline")
