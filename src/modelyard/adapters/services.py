"""``make services``: the services that a team runs for good, as they are, on this machine's loopback and for as long as this process lives.

SeaweedFS (S3), PostgreSQL, the MLflow server (runs in PostgreSQL, files in S3), the Prefect server (in PostgreSQL) and a Ray head. Key, secret,
the database's password and Ray's token come from the environment, are handed on in the environment and are written nowhere (the key's name, no
secret, is in the S3 server's log); where each service answers goes to ``addresses`` in the services' directory, for a shell to read. That
directory is closed to others. A service that dies is started again on its own data, when what it left of its processes is gone. The kernel ends
every service with this process. Left out: TLS and more machines (``infra/`` has the manifests for those).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

from modelyard.adapters import object_store, ray_cluster
from modelyard.adapters.child import HOST, ServerError, die_with_parent, end, healthy, interruptible
from modelyard.adapters.home import home

NEEDED = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD", "RAY_AUTH_TOKEN")
PORTS = {"s3": 8333, "postgresql": 5433, "mlflow": 5000, "prefect": 4200, "ray": 6379, "dashboard": 8265}
BUCKETS = ("modelyard", "mlflow")
USER = "modelyard"
START_SECONDS = 180.0
POLL_SECONDS = 0.5
POSTGRES_HOMES = ("/usr/lib/postgresql", "/usr/pgsql", "/opt/homebrew/opt/postgresql")


class Service(NamedTuple):
    """One service: how it is started and how one sees that it answers."""

    name: str
    start: Callable[[], subprocess.Popen[bytes]]
    answers: Callable[[], bool]


class Yard(NamedTuple):
    """Where the services live."""

    directory: Path
    ports: Mapping[str, int]
    brief: Path
    """For Ray's sockets and logs, gone with the services: a socket's path holds 107 characters, of which Ray's own names take 63."""

    def log(self, name: str) -> Path:
        """Log of a service."""
        return self.directory / ("s3/log" if name == "s3" else f"{name}.log")

    @property
    def addresses(self) -> dict[str, dict[str, str]]:
        """What a client has to know of each service besides the credentials."""
        return {
            "s3": {"AWS_ENDPOINT_URL": f"http://{HOST}:{self.ports['s3']}", "AWS_DEFAULT_REGION": "us-east-1"},
            "postgresql": {"PGHOST": HOST, "PGPORT": str(self.ports["postgresql"]), "PGUSER": USER},
            "mlflow": {"MLFLOW_TRACKING_URI": f"http://{HOST}:{self.ports['mlflow']}"},
            "prefect": {"PREFECT_API_URL": f"http://{HOST}:{self.ports['prefect']}/api"},
            "ray": {
                "RAY_ADDRESS": f"{HOST}:{self.ports['ray']}",
                "RAY_AUTH_MODE": "token",
                "MODELYARD_RAY_DASHBOARD": f"http://{HOST}:{self.ports['dashboard']}",
            },
        }

    def environment(self, names: Iterable[str]) -> dict[str, str]:
        """The addresses of these services as environment variables."""
        return {key: value for name in names for key, value in self.addresses[name].items()}

    def spawn(self, name: str, command: Sequence[str], **more: str) -> subprocess.Popen[bytes]:
        """Start ``command`` with the addresses and ``more`` in its environment, its output in its log."""
        self.log(name).touch(mode=0o600)
        with open(self.log(name), "ab") as output:
            return subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.directory,
                env={**os.environ, **self.environment(ALL), **more},
                umask=0o077,
                preexec_fn=die_with_parent,
            )


def s3(yard: Yard) -> Service:
    """SeaweedFS."""
    data = yard.directory / "s3"
    return Service("s3", lambda: object_store.start(data, yard.ports["s3"], preexec=die_with_parent), lambda: object_store.ready(BUCKETS))


def postgresql(yard: Yard) -> Service:
    """PostgreSQL with password authentication everywhere; one database for MLflow and one for Prefect."""
    data = yard.directory / "postgresql"
    settings = {
        "listen_addresses": HOST,
        "port": yard.ports["postgresql"],
        "unix_socket_directories": "",
        "dynamic_shared_memory_type": "mmap",
    }

    def start() -> subprocess.Popen[bytes]:
        if not (data / "PG_VERSION").is_file():
            shutil.rmtree(data, ignore_errors=True)
            options = [f"--username={USER}", "--auth=scram-sha-256", "--pwfile=/dev/stdin", "--encoding=UTF8", "--no-locale", "--no-sync"]
            made = subprocess.run(
                [*_not_as_root(), _postgres("initdb"), f"--pgdata={data}", *options],
                input=f"{os.environ['PGPASSWORD']}\n".encode(),
                capture_output=True,
                umask=0o077,
                check=False,
            )
            if made.returncode:
                raise ServerError(f"PostgreSQL: initdb failed: {made.stderr.decode().strip().splitlines()[-1]}")
        arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return yard.spawn("postgresql", [*_not_as_root(), _postgres("postgres"), "-D", str(data), *arguments])

    def answers() -> bool:
        import psycopg2

        with contextlib.suppress(psycopg2.OperationalError):
            with contextlib.closing(psycopg2.connect(host=HOST, port=yard.ports["postgresql"], user=USER, dbname="postgres")) as connection:
                connection.autocommit = True
                with connection.cursor() as cursor:
                    cursor.execute("SELECT datname FROM pg_database")
                    there = {row[0] for row in cursor.fetchall()}
                    for missing in {"mlflow", "prefect"} - there:
                        cursor.execute(f"CREATE DATABASE {missing}")
            return True
        return False

    return Service("postgresql", start, answers)


def mlflow(yard: Yard) -> Service:
    """The MLflow server: clients need its address only, files go through it to S3."""
    port = str(yard.ports["mlflow"])
    database = f"postgresql+psycopg2://{USER}@{HOST}:{yard.ports['postgresql']}/mlflow"  # the password is libpq's to read: PGPASSWORD
    store = ["--backend-store-uri", database, "--artifacts-destination", "s3://mlflow/artifacts"]
    command = [sys.executable, "-m", "mlflow", "server", *store, "--host", HOST, "--port", port, "--workers", "1"]
    own = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_TRACKING_URI": ""}
    return Service("mlflow", lambda: yard.spawn("mlflow", command, **own), lambda: healthy(f"http://{HOST}:{port}/health"))


def prefect(yard: Yard) -> Service:
    """The Prefect server."""
    port = str(yard.ports["prefect"])
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", HOST, "--port", port]
    own = {
        "PREFECT_HOME": str(yard.directory / "prefect"),
        "PREFECT_API_DATABASE_CONNECTION_URL": f"postgresql+asyncpg://{USER}@{HOST}:{yard.ports['postgresql']}/prefect",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_SERVER_LEVEL": "WARNING",
        "DO_NOT_TRACK": "1",
    }
    return Service("prefect", lambda: yard.spawn("prefect", command, **own), lambda: healthy(f"http://{HOST}:{port}/api/health"))


def ray(yard: Yard) -> Service:
    """A Ray head with its dashboard, both behind the token."""
    options = {"node-ip-address": HOST, "port": yard.ports["ray"], "dashboard-host": HOST, "dashboard-port": yard.ports["dashboard"]}
    options |= {"num-cpus": max(os.cpu_count() or 1, 2), "temp-dir": yard.brief}
    program = [sys.executable, "-c", "from ray.scripts.scripts import main; main()"]
    command = [*program, "start", "--head", "--block", *(f"--{name}={value}" for name, value in options.items())]
    return Service(
        "ray",
        lambda: yard.spawn("ray", command, **ray_cluster.QUIET, **ray_cluster.LOOPBACK),
        lambda: healthy(f"http://{HOST}:{yard.ports['dashboard']}/api/gcs_healthz", os.environ["RAY_AUTH_TOKEN"]),
    )


ALL: dict[str, Callable[[Yard], Service]] = {"s3": s3, "postgresql": postgresql, "mlflow": mlflow, "prefect": prefect, "ray": ray}
"""In the order in which they need each other."""


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
    yard.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    yard.directory.chmod(0o700)
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


def _postgres(program: str) -> str:
    """PostgreSQL's ``program``: on the search path or where Debian, Red Hat and Homebrew put it. Raises ServerError."""
    homes = [found for place in POSTGRES_HOMES for found in sorted(Path(place).parent.glob(f"{Path(place).name}*"), reverse=True)]
    places = [str(directory) for one in homes for directory in (one / "bin", *sorted(one.glob("*/bin"), reverse=True))]
    found = shutil.which(program, path=os.pathsep.join([*places, os.environ.get("PATH", "")]))
    if found is None:
        raise ServerError(f"PostgreSQL's {program} is not installed (Debian: postgresql)")
    return found


def _not_as_root() -> list[str]:
    """PostgreSQL refuses to be root; in a user namespace it is somebody else who owns the same files."""
    return ["unshare", "--user", "--map-user=65534", "--map-group=65534", "--"] if os.geteuid() == 0 else []


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(arguments: Sequence[str]) -> int:
    """``make services``: everything until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m modelyard.adapters.services", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=list(ALL), default=list(ALL), help="start these (default: all)")
    for name, port in PORTS.items():
        parser.add_argument(f"--{name}-port", type=int, default=port, help=f"default {port}")
    options = parser.parse_args(arguments)
    ports = {name: getattr(options, f"{name}_port") for name in PORTS}
    interruptible()
    try:
        with running(home() / "services", options.only, ports, _say) as (yard, revive):
            for name in options.only:
                _say(f"{name:<11} {HOST}:{yard.ports[name]}  log {yard.log(name)}")
            _say(f"addresses   . {yard.directory / 'addresses'}\nCtrl-C ends all.")
            while True:
                time.sleep(POLL_SECONDS)
                revive()
    except KeyboardInterrupt:
        return 0
    except (ServerError, object_store.ObjectStoreError) as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
