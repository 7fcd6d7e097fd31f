"""The local Prefect server: nobody starts, stops or leaks one by hand.

It lives exactly as long as somebody holds its home: each user holds a shared ``flock`` on ``clients.lock``, and a keeper process beside the server
waits for the exclusive one. The kernel drops a lock with its process, so a run that is killed with -9 leaves neither an orphan nor a stale "in use"
mark, two runs share one server on one SQLite file, and a run finds the server of ``make ui``. A server that is killed starts again at its port, so
the runs on it go on; it gets SIGTERM from the kernel if its keeper dies (PR_SET_PDEATHSIG). It listens on loopback, lets pages of its own
origin alone read it, and answers only who knows its home's auth string (``auth``, readable by this user alone): whatever runs in a browser or
under another name on this machine can neither read a run nor sign a release. Left out: PostgreSQL and remote servers.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import psutil

from modelyard.adapters.home import private
from modelyard.child_server import HOST, START_SECONDS, ServerError, die_with_parent, end, free_port, healthy

PORT = 4200
AUTH = "auth"
"""File of a home with the auth string of its server."""


class Address(NamedTuple):
    """Where a Prefect server answers."""

    api: str
    page: str
    auth: str
    """Its clients' PREFECT_API_AUTH_STRING, and what its page asks for."""


@contextmanager
def starting(home: Path) -> Iterator[None]:
    """Hold the Prefect server of ``home``, started when nobody else has, without waiting until it answers.

    What takes time at the start of a run can go on meanwhile. Raises ServerError.
    """
    home = home.absolute()
    private(home)
    with _locked(home / "clients.lock", fcntl.LOCK_SH):
        with _locked(home / "start.lock", fcntl.LOCK_EX):
            auth_string(home)
            _ensure_keeper(home)
        yield


@contextmanager
def prefect_server(home: Path) -> Iterator[Address]:
    """Hold the Prefect server of ``home``, starting it when nobody else has. Raises ServerError."""
    home = home.absolute()
    with starting(home):
        with _locked(home / "start.lock", fcntl.LOCK_EX):
            port = _wait_for_port(home)
        yield Address(f"http://{HOST}:{port}/api", f"http://{HOST}:{port}", auth_string(home))


def auth_string(home: Path) -> str:
    """The auth string of the server of ``home``, made where there is none yet."""
    file = home / AUTH
    if not file.is_file():
        partial = home / f"{AUTH}.partial"
        partial.touch(mode=0o600)
        partial.chmod(0o600)
        partial.write_text(f"modelyard:{secrets.token_urlsafe(32)}")
        partial.replace(file)
    return file.read_text().strip()


def protected(port: int, auth: str) -> dict[str, str]:
    """Settings of a Prefect server that answers its own pages and who knows ``auth``, and nobody else."""
    return {
        "PREFECT_SERVER_API_AUTH_STRING": auth,
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"http://{HOST}:{port},http://localhost:{port}",
    }


def keep(home: Path) -> int:
    """The keeper: run the server until no client holds ``home``; one that was killed starts again at the same port, where its clients look for it.

    Called as ``python -m modelyard.adapters.servers.prefect_server HOME``.
    """
    with _locked(home / "keeper.lock", fcntl.LOCK_EX):
        for preferred in (int(os.environ.get("PREFECT_SERVER_API_PORT", PORT)), 0, 0):
            port = free_port(preferred)  # until the server binds it somebody else may take it: then the next
            if server := _start_server(home, port):
                break

        unused, changing = threading.Event(), threading.Lock()  # a server is ended before or after the next one starts, not between

        def stop_when_unused() -> None:
            with _locked(home / "clients.lock", fcntl.LOCK_EX):
                with changing:
                    unused.set()
                    if server:
                        end(server)
                threading.Event().wait()  # inside the lock until this process is gone: the next client must find neither it nor its server

        threading.Thread(target=stop_when_unused, daemon=True).start()
        while server:
            server.wait()
            with changing:
                if unused.is_set():
                    return 0
                server = _start_server(home, port)
    return 1


def _start_server(home: Path, port: int) -> subprocess.Popen[bytes] | None:
    """A server that listens, named in ``server.json``; None when it ended before that."""
    environment = {
        **os.environ,
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": f"http://{HOST}:{port}/api",  # the page in the browser asks this address
        "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{home}/prefect.db",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_SERVER_LEVEL": "WARNING",
        "PREFECT_API_AUTH_STRING": (auth := auth_string(home)),  # its own services ask it too
        "DO_NOT_TRACK": "1",
        **protected(port, auth),
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(port)]
    server = subprocess.Popen(command, env=environment, preexec_fn=die_with_parent)
    while server.poll() is None:
        if _listens(server.pid, port):
            partial = home / "server.json.partial"
            partial.write_text(json.dumps({"pid": server.pid, "port": port}))
            partial.replace(home / "server.json")
            return server
        time.sleep(0.1)
    return None


def _answering(home: Path) -> int | None:
    """Port of the server that ``server.json`` names, if that very process answers there."""
    try:
        named = json.loads((home / "server.json").read_text())
        pid, port = int(named["pid"]), int(named["port"])
    except (OSError, ValueError, KeyError):
        return None
    return port if _listens(pid, port) and healthy(f"http://{HOST}:{port}/api/health") else None


def _listens(pid: int, port: int) -> bool:
    """Whether process ``pid`` has the port: after a kill another home's server may answer there."""
    try:
        sockets = psutil.Process(pid).net_connections("tcp")
    except psutil.Error:
        return False
    return any(socket.status == psutil.CONN_LISTEN and socket.laddr.port == port for socket in sockets)


def _wait_for_port(home: Path) -> int:
    """Port at which the server of ``home`` answers. Raises ServerError."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if port := _answering(home):
            return port
        if not _is_kept(home):
            break
        time.sleep(0.1)
    raise _not_started(home)


def _not_started(home: Path) -> ServerError:
    return ServerError(f"Prefect server did not start; see {home / 'server.log'}")


def _ensure_keeper(home: Path) -> None:
    """A keeper that lives. Raises ServerError."""
    if _is_kept(home):
        return
    keeper = _start_keeper(home)
    while not _is_kept(home):
        if keeper.poll() is not None:
            raise _not_started(home)
        time.sleep(0.02)


def _is_kept(home: Path) -> bool:
    """Whether a keeper lives: then its server starts, or starts again."""
    with open(home / "keeper.lock", "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _start_keeper(home: Path) -> subprocess.Popen[bytes]:
    (home / "server.json").unlink(missing_ok=True)
    with open(home / "server.log", "wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "modelyard.adapters.servers.prefect_server", str(home)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C in the run's terminal must not reach the server before the run has said goodbye to it
        )


@contextmanager
def _locked(path: Path, kind: int) -> Iterator[IO[bytes]]:
    with open(path, "ab") as file:
        fcntl.flock(file, kind)
        yield file


if __name__ == "__main__":
    try:
        sys.exit(keep(Path(sys.argv[1])))
    except ServerError as error:
        sys.exit(str(error))
