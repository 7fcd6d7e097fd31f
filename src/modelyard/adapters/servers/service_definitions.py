"""The services of ``make services``, one by one: where each lives, how it is started and how one sees that it answers.

Left out: keeping them running (:mod:`modelyard.adapters.servers.services`).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from modelyard.adapters.ray import cluster as ray_cluster
from modelyard.adapters.servers import object_store
from modelyard.adapters.servers.prefect_server import protected
from modelyard.child_server import HOST, ServerError, die_with_parent, healthy

BUCKETS = ("modelyard", "mlflow")
USER = "modelyard"
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
                [*_not_as_root(), postgres("initdb"), f"--pgdata={data}", *options],
                input=f"{os.environ['PGPASSWORD']}\n".encode(),
                capture_output=True,
                umask=0o077,
                check=False,
            )
            if made.returncode:
                raise ServerError(f"PostgreSQL: initdb failed: {made.stderr.decode().strip().splitlines()[-1]}")
        arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return yard.spawn("postgresql", [*_not_as_root(), postgres("postgres"), "-D", str(data), *arguments])

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
    """The Prefect server, which answers its own pages and who knows the auth string of the environment."""
    port = str(yard.ports["prefect"])
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", HOST, "--port", port]
    own = {
        "PREFECT_HOME": str(yard.directory / "prefect"),
        "PREFECT_API_DATABASE_CONNECTION_URL": f"postgresql+asyncpg://{USER}@{HOST}:{yard.ports['postgresql']}/prefect",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_SERVER_LEVEL": "WARNING",
        "DO_NOT_TRACK": "1",
        **protected(yard.ports["prefect"], os.environ["PREFECT_API_AUTH_STRING"]),
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
        lambda: yard.spawn("ray", command, **ray_cluster.QUIET, **ray_cluster.LOCAL),
        lambda: healthy(f"http://{HOST}:{yard.ports['dashboard']}/api/gcs_healthz", os.environ["RAY_AUTH_TOKEN"]),
    )


ALL: dict[str, Callable[[Yard], Service]] = {"s3": s3, "postgresql": postgresql, "mlflow": mlflow, "prefect": prefect, "ray": ray}
"""In the order in which they need each other."""


def postgres(program: str) -> str:
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
