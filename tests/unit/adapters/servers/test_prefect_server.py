"""The Prefect server lives as long as its clients: shared, reused, and gone after a kill -9."""

import base64
import fcntl
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import httpx
import psutil
import pytest

from modelyard.adapters.servers.prefect_server import prefect_server
from modelyard.child_server import healthy

pytestmark = pytest.mark.integration

HOLDER = """
import sys, time
from pathlib import Path
from modelyard.adapters.servers.prefect_server import prefect_server
with prefect_server(Path(sys.argv[1])) as address:
    print(address.api, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def home(tmp_path, seed_prefect):
    return seed_prefect(tmp_path)


def hold(home: Path) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", HOLDER, str(home)], stdout=subprocess.PIPE, text=True)


def gone(pid: int, seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split(")")[1][:3]:
            return True
        time.sleep(0.1)
    return False


def is_kept(home: Path) -> bool:
    with (home / "keeper.lock").open("ab") as keeper:
        try:
            fcntl.flock(keeper, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def revision(home: Path) -> str:
    with closing(sqlite3.connect(home / "prefect.db")) as database:
        return database.execute("SELECT version_num FROM alembic_version").fetchone()[0]


@pytest.mark.slow
def test_database_of_an_earlier_prefect_is_migrated_when_its_server_starts(home):
    newest = revision(home)
    where = {**os.environ, "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{home}/prefect.db", "PREFECT_HOME": str(home)}
    back = [Path(sys.executable).with_name("prefect"), "server", "database", "downgrade", "--yes", "--revision", "-3"]
    subprocess.run(back, env=where, check=True, capture_output=True)
    assert revision(home) != newest
    with prefect_server(home) as address:
        assert healthy(address.api + "/health")
        assert httpx.post(f"{address.api}/flow_runs/count", auth=tuple(address.auth.split(":", 1))).text == "0"
    assert revision(home) == newest


@pytest.mark.slow
def test_prefect_server_killed_clients_leave_no_orphan_and_next_start_works(home):
    first, second = hold(home), hold(home)
    api = first.stdout.readline()
    assert api == second.stdout.readline(), "two runs at once must share one server"
    pid = json.loads((home / "server.json").read_text())["pid"]
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    with prefect_server(home) as address:
        assert address.api == api.strip(), "the second run still needs the server"
        os.kill(second.pid, signal.SIGKILL)
        second.wait()
        assert healthy(address.api + "/health")
    assert gone(pid)
    with prefect_server(home) as again:
        assert healthy(again.api + "/health")
        pid = json.loads((home / "server.json").read_text())["pid"]
    assert gone(pid)


@pytest.mark.slow
def test_prefect_server_killed_itself_starts_again_where_its_clients_look_for_it(home):
    with prefect_server(home) as first:
        pid = json.loads((home / "server.json").read_text())["pid"]
        os.kill(pid, signal.SIGKILL)
        assert gone(pid)
        with prefect_server(home) as second:
            assert second == first
            assert healthy(first.api + "/health")
        pid = json.loads((home / "server.json").read_text())["pid"]
    assert gone(pid)


@pytest.mark.slow
def test_prefect_server_whose_last_client_leaves_while_it_starts_again_is_ended(home):
    with prefect_server(home):
        killed = json.loads((home / "server.json").read_text())["pid"]
        os.kill(killed, signal.SIGKILL)
        assert gone(killed)
    deadline = time.monotonic() + 120
    while is_kept(home):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    pid = json.loads((home / "server.json").read_text())["pid"]
    assert pid != killed
    assert gone(pid)


def test_prefect_server_answers_its_own_pages_and_who_knows_the_auth_string(home):
    with prefect_server(home) as server:
        asked = f"{server.api}/flow_runs/filter"
        known = {"Authorization": f"Basic {base64.b64encode(server.auth.encode()).decode()}"}
        preflight = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}

        assert httpx.post(asked, json={}).status_code == 401
        assert httpx.post(asked, json={}, headers={"Authorization": "Basic eDp5"}).status_code == 401
        assert httpx.post(asked, json={}, headers=known).status_code == 200
        assert "access-control-allow-origin" not in httpx.options(asked, headers=preflight).headers
        assert "access-control-allow-origin" not in httpx.post(asked, json={}, headers={**known, **preflight}).headers
        own = httpx.post(asked, json={}, headers={**known, "Origin": server.page})
        assert own.headers["access-control-allow-origin"] == server.page
        process = psutil.Process(json.loads((home / "server.json").read_text())["pid"])
        assert {c.laddr.ip for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN} == {"127.0.0.1"}
        assert server.auth not in " ".join(process.cmdline())
        assert (home / "auth").stat().st_mode & 0o077 == 0
        assert server.auth not in (home / "server.log").read_text()


@pytest.mark.slow
def test_prefect_server_two_homes_at_once_get_a_server_each_whatever_their_records_say(tmp_path):
    homes = [tmp_path / "one", tmp_path / "two"]
    holders = [hold(home) for home in homes]
    ports = [holder.stdout.readline().strip() for holder in holders]
    assert len(set(ports)) == 2
    (tmp_path / "three").mkdir()
    stale = {"pid": os.getpid(), "port": json.loads((homes[0] / "server.json").read_text())["port"]}
    (tmp_path / "three/server.json").write_text(json.dumps(stale))
    with prefect_server(tmp_path / "three") as address:
        assert address.api not in ports
    for holder in holders:
        holder.kill()
        holder.wait()
