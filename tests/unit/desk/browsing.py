"""A desk and people at its pages: real pages, forms and cookies, without a network."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import httpx
from starlette.testclient import TestClient

from modelyard.desk import accounts
from modelyard.desk.database import Database
from modelyard.desk.settings import DeskConfig
from modelyard.desk.web.app import application
from modelyard.desk.work.batches import BatchConfig, ItemRow, add

PASSWORD = "correct horse battery"
HERE = "http://localhost"
POSTGRESQL = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"))), None) if find_spec("psycopg2") else None


class Person:
    """Somebody with a browser, at an application or at a server's address."""

    def __init__(self, desk: object, name: str = "", password: str = PASSWORD) -> None:
        self.client = (
            httpx.Client(base_url=desk, follow_redirects=True, timeout=60) if isinstance(desk, str) else TestClient(desk, base_url=HERE)
        )
        if name:
            before = re.search(r'name="before" value="([^"]+)"', self.client.get("/sign-in").text)[1]
            self.said = self.client.post("/sign-in", data={"before": before, "name": name, "password": password})

    @property
    def csrf(self) -> str:
        return token(self.client.get("/me"))

    def get(self, path: str) -> httpx.Response:
        return self.client.get(path)

    def post(self, path: str, **form: object) -> httpx.Response:
        return self.client.post(path, data={"csrf": self.csrf, **form})


def token(page: httpx.Response) -> str:
    """What a form of the page sends to prove that it is one."""
    return re.search(r'name="csrf" value="([^"]+)"', page.text)[1]


def shown(response: httpx.Response) -> str:
    """The text of a page."""
    body = response.text.partition("<body>")[2]
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def people(database: Database, *names: str, role: str = "labeler", admitted: bool = True) -> list[accounts.Account]:
    """Accounts that consented, all with one password hash since hashing is slow by intent."""
    with database.write() as session:
        made = [accounts.create(session, "test", name, [role], None) for name in names]
        hashed = accounts.hashed(PASSWORD)
        for one in made:
            one.password, one.consented_at, one.admitted_at = hashed, 1.0, 1.0 if admitted else None
        session.flush()
        session.expunge_all()
    return made


def batch(database: Database, items: Sequence[ItemRow], name: str = "b", **config: object) -> None:
    """A batch of these items."""
    settings = {"name": name, "kind": "ranking", "items": "-", **config}
    with database.write() as session:
        add(session, BatchConfig.model_validate(settings), "Be truthful.", items)


def question(number: int, answers: int = 4, **more: object) -> ItemRow:
    """An item to rank."""
    said = [{"text": f"answer {place} to {number}", "model": f"secret-model@{place}"} for place in range(answers)]
    row = {"id": f"q{number}", "prompt": [{"role": "user", "content": f"question {number}"}], "completions": said, **more}
    return ItemRow.model_validate(row)


def desk(database: Database, **config: object) -> object:
    """The application."""
    return application(database, DeskConfig.model_validate({"sign_ins_per_minute": 100, "posts_per_minute": 10_000, **config}))


@contextmanager
def postgresql(place: Path) -> Iterator[str]:
    """URL of an empty database of a PostgreSQL server of one's own, which listens on a socket in ``place``."""
    assert POSTGRESQL
    shutil.chown(place, "postgres", "postgres")
    as_user = ["runuser", "-u", "postgres", "--"]
    socket = Path(subprocess.run(["mktemp", "-d", "/tmp/desk-pg-XXXXXX"], check=True, capture_output=True, text=True).stdout.strip())
    shutil.chown(socket, "postgres", "postgres")
    data = socket / "data"
    subprocess.run([*as_user, POSTGRESQL / "initdb", "-D", data, "--no-sync", "-A", "trust"], check=True, capture_output=True)
    options = f"-c listen_addresses='' -c unix_socket_directories={socket} -c fsync=off"
    subprocess.run(
        [*as_user, POSTGRESQL / "pg_ctl", "-D", data, "-w", "-l", socket / "log", "-o", options, "start"], check=True, capture_output=True
    )
    try:
        yield f"postgresql+psycopg2://postgres@/postgres?host={socket}"
    finally:
        subprocess.run([*as_user, POSTGRESQL / "pg_ctl", "-D", data, "-m", "immediate", "stop"], check=False, capture_output=True)
        shutil.rmtree(socket)
