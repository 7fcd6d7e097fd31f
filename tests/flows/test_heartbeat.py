"""A flow that was killed is shown as crashed, also when its server went down with it; one that has ended or sends heartbeats is left alone."""

import os
import signal
import subprocess
import sys
import time
from datetime import timedelta

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from modelyard.adapters.servers.prefect_server import prefect_server
from tasks.heartbeat import watch_heartbeats

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(600)]

SLEEPS = """
import sys, time
from prefect import flow, tags

@flow(name=sys.argv[1])
def sleeps():
    time.sleep(float(sys.argv[2]))

with tags("modelyard"):
    sleeps()
"""


def start(name, server, seconds=600) -> subprocess.Popen:
    environment = {
        **os.environ,
        "PREFECT_API_URL": server.api,
        "PREFECT_API_AUTH_STRING": server.auth,
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    }
    return subprocess.Popen([sys.executable, "-c", SLEEPS, name, str(seconds)], env=environment, stderr=subprocess.DEVNULL)


def wait(server, states: dict[str, str], seconds: float = 240) -> None:
    """Until the flows' runs are in ``states``."""
    client = SyncPrefectClient(server.api, auth_string=server.auth)
    deadline = time.monotonic() + seconds
    while True:
        flows = {flow.id: flow.name for flow in client.read_flows()}
        found = {flows[run.flow_id]: run.state.type.value for run in client.read_flow_runs()}
        if found == states:
            return
        assert time.monotonic() < deadline, found
        time.sleep(1)


def test_flow_run_killed_with_its_server_is_crashed_and_a_living_one_still_runs(tmp_path):
    with prefect_server(tmp_path) as server, temporary_settings({PREFECT_API_URL: server.api, PREFECT_API_AUTH_STRING: server.auth}):
        watch_heartbeats(timedelta(seconds=60))
        watch_heartbeats(timedelta(seconds=60))
        assert len(SyncPrefectClient(server.api, auth_string=server.auth).read_automations()) == 1
        start("done", server, seconds=0).wait()
        killed = start("killed", server)
        wait(server, {"done": "COMPLETED", "killed": "RUNNING"})
        time.sleep(5)  # the first heartbeat is on its way
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
    with prefect_server(tmp_path) as server:
        alive = start("alive", server)
        try:
            wait(server, {"done": "COMPLETED", "killed": "CRASHED", "alive": "RUNNING"})
            time.sleep(70)
            wait(server, {"done": "COMPLETED", "killed": "CRASHED", "alive": "RUNNING"}, seconds=0)
        finally:
            alive.kill()
            alive.wait()
