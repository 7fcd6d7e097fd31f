"""Secrets stay in the environment: none of those that every end-to-end run has is in what a run prints, keeps, tracks or logs."""

import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from modelyard.adapters.servers.object_store import free_port
from modelyard.adapters.servers.prefect_server import prefect_server
from modelyard.store.inputs import expand
from modelyard.store.storage import Storage
from tests.e2e.running import PIPELINE, SECRETS, copy, ended, start

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]
RAY_SESSIONS = Path("/tmp/ray")


def contents(path: Path):
    """The bytes of a file; of an archive (torch's and MLflow's formats are) those of its members."""
    yield path.read_bytes()
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                yield archive.read(name)


def holding(root: Path, since: float = 0.0, secrets: Collection[str] = SECRETS.values()) -> list[str]:
    """Files below ``root`` that hold a secret."""
    found = []
    for place, _, names in os.walk(root):
        for name in names:
            path = Path(place) / name
            try:
                if path.is_symlink() or not path.is_file() or path.stat().st_mtime < since:
                    continue
                if any(secret.encode() in data for data in contents(path) for secret in secrets):
                    found.append(str(path))
            except OSError:  # a socket, or gone
                continue
    return found


def test_run_leaves_no_secret_anywhere(finished):
    directory, done = finished
    assert not [secret for secret in SECRETS.values() if secret in done.out + done.err]
    assert holding(directory) == []
    begun = (directory / ".modelyard").stat().st_ctime
    assert holding(RAY_SESSIONS, since=begun - 600) == []
    (directory / "planted").write_text(f"x{SECRETS['PGPASSWORD']}x")
    try:
        assert holding(directory) == [str(directory / "planted")], "the search itself finds what is there"
    finally:
        (directory / "planted").unlink()


@contextmanager
def mlflow_server(home: Path) -> Iterator[str]:
    """host:port of a real MLflow server on the records of a home."""
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{home}/mlflow.db", "--workers", "1"]
    command += ["--artifacts-destination", str(home / "artifacts"), "--host", "127.0.0.1", "--port", address.partition(":")[2]]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            try:
                httpx.get(f"http://{address}/health").raise_for_status()
                break
            except httpx.HTTPError:
                time.sleep(0.1)
        yield address
    finally:
        server.terminate()
        server.wait()


@pytest.mark.slow
def test_run_on_servers_whose_urls_hold_passwords_leaves_none_of_them(finished, tmp_path):
    directory = copy(finished[0], tmp_path / "urls")
    home = directory / ".modelyard"
    with mlflow_server(home) as mlflow, prefect_server(home / "prefect") as prefect:
        user, password = prefect.auth.split(":")
        urls = {
            "MLFLOW_TRACKING_URI": f"http://ann:planted-in-a-url@{mlflow}",
            "PREFECT_API_URL": prefect.api.replace("//", f"//{user}:{password}@"),
            "PREFECT_API_AUTH_STRING": "",
            "PREFECT_HOME": str(home / "prefect"),
        }
        done = ended(start(directory, PIPELINE, "release.min_win_rate=0.99", environment=urls))
    assert "HOLD: preference" in done.err, done.out + done.err
    planted = ("planted-in-a-url", password)
    assert not [secret for secret in planted if secret in done.out + done.err]
    assert holding(directory, secrets=planted) == [str(home / "prefect/auth")]


@pytest.mark.parametrize(
    ("opened", "url"),
    [
        (Storage, "s3://key:secret@bucket/store"),
        (Storage, "s3://key@bucket"),
        (expand, "s3://key:secret@bucket/documents.jsonl"),
        (expand, "https://key:secret@127.0.0.1:9/documents.jsonl"),
        (expand, "https://127.0.0.1:9/documents.jsonl?sig=secret"),
        (expand, "https://127.0.0.1:9/documents.jsonl?X-Amz-Signature=secret"),
    ],
)
def test_credentials_in_a_url_are_refused_without_being_said(opened, url):
    with pytest.raises(ValueError, match="credentials come from the environment") as caught:
        opened(url)
    assert "secret" not in str(caught.value)
    assert "key" not in str(caught.value)
