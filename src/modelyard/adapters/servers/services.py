"""``make services``: the services that a team runs for good, as they are, on this machine's loopback and for as long as this process lives.

SeaweedFS (S3), PostgreSQL, the MLflow server (runs in PostgreSQL, files in S3), the Prefect server (in PostgreSQL) and a
Ray head. Key, secret, the database's password, Prefect's auth string and Ray's token come from the environment, are handed
on in the environment and are written nowhere (the key's name, no secret, is in the S3 server's log); where each service
answers goes to ``addresses`` in the services' directory, for a shell to read. That directory is closed to others. A service
that dies is started again on its own data, when what it left of its processes is gone. The kernel ends every service with
this process. Left out: TLS and more machines (``infra/`` has the manifests for those).
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import psutil

from modelyard.adapters.home import private
from modelyard.adapters.servers.ports import PORTS
from modelyard.adapters.servers.service_definitions import ALL, Service, Yard
from modelyard.child_server import HOST, ServerError, end

NEEDED = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD", "PREFECT_API_AUTH_STRING", "RAY_AUTH_TOKEN")
START_SECONDS = 180.0
POLL_SECONDS = 0.5


@contextlib.contextmanager
def running(
    directory: Path, names: Sequence[str] = tuple(ALL), ports: Mapping[str, int] = PORTS, say: Callable[[str], None] = lambda line: None
) -> Iterator[tuple[Yard, Callable[[], None]]]:
    """The services ``names``, each up when the next one starts; yields where they are and a function that starts again what has died.

    Raises ServerError: a credential is not in the environment, a port is taken, or one did not start (the line names its log).
    """
    check_environment()
    brief = tempfile.TemporaryDirectory(prefix="modelyard-", ignore_cleanup_errors=True)
    yard = Yard(directory.absolute(), ports, Path(brief.name))
    private(yard.directory)
    processes: dict[str, subprocess.Popen[bytes]] = {}
    offspring: dict[str, list[psutil.Process]] = {}
    addresses = yard.environment(names)
    before = {key: os.environ.get(key) for key in addresses}
    os.environ.update(addresses)  # health checks are clients too
    services = {name: ALL[name](yard) for name in names}

    def revive() -> None:
        for name, service in services.items():
            if name in processes and processes[name].poll() is None:
                offspring[name] = _children(processes[name])
                continue
            say(f"{name}: {'has died, starting it again' if name in processes else 'starting'}")
            _kill(offspring.pop(name, []))  # what it left would hold its port and answer for it
            processes[name] = _started(yard, service)

    try:
        for name in names:
            _refuse_taken(name, ports[name])
        revive()
        _write_addresses(yard, names)
        yield yard, revive
    finally:
        for name, process in reversed(processes.items()):
            left = [*offspring.get(name, []), *_children(process)]
            end(process)
            _kill(left)
        brief.cleanup()
        for key, value in before.items():
            os.environ.pop(key, None)
            if value is not None:
                os.environ[key] = value


def check_environment() -> None:
    """Raises ServerError naming the credentials that are not in the environment."""
    if missing := [name for name in NEEDED if not os.environ.get(name)]:
        random = " ".join(f"{name}=$(openssl rand -hex 32)" for name in missing)
        raise ServerError(f"{', '.join(missing)}: not in the environment; for instance: export {random}")


def _started(yard: Yard, service: Service) -> subprocess.Popen[bytes]:
    process = service.start()
    deadline = time.monotonic() + START_SECONDS
    while not service.answers():
        if process.poll() is not None or time.monotonic() > deadline:
            end(process)
            raise ServerError(f"{service.name} did not start; see {yard.log(service.name)}")
        time.sleep(POLL_SECONDS)
    return process


def _children(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.Error:
        return []


def _kill(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()


def _refuse_taken(name: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            raise ServerError(f"{name}: port {port} on {HOST} is taken; another one: make services PORTS='--{name}-port NUMBER'") from None


def _write_addresses(yard: Yard, names: Iterable[str]) -> None:
    """A file for the shell; no secret is in it."""
    file = yard.directory / "addresses"
    file.touch(mode=0o600)
    file.write_text("".join(f"export {name}={value}\n" for name, value in yard.environment(names).items()))
