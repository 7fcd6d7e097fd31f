"""The desk's database: SQLite by default, PostgreSQL by URL; brought to today's tables by Alembic when it is opened.

Writers take turns (SQLite's ``BEGIN IMMEDIATE``, an advisory lock of PostgreSQL), so what a writer reads stays true until it has
written: no item is given twice and no audit entry is lost. Readers see one state of the database and wait for nobody.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from alembic import command
from alembic.config import Config as AlembicConfig
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from modelyard.complaint import complaint, without_password
from modelyard.desk.tables import PREFIX

MIGRATIONS = Path(__file__).parent / "migrations"
VERSION_TABLE = f"{PREFIX}version"
WRITES = "desk_writes"
"""Execution option of a connection that writes."""
TURN = 0x6465736B
"""Of PostgreSQL's advisory lock."""
PATIENCE_MS = 30_000


class Database:
    """Safe to use from several threads and processes."""

    def __init__(self, url: str, *, create: bool = True) -> None:
        """Open ``url`` and bring its tables up to date.

        Raises ValueError where that cannot be done, or without ``create`` where there is no such file of SQLite's.
        """
        self._turn = threading.Lock()  # waits without SQLite's polling; other processes still take their turns there
        try:
            named = sql.make_url(url)
            if named.get_backend_name() == "sqlite" and named.database in (None, "", ":memory:"):
                raise ValueError(f"{url}: name a file, as in sqlite:////home/desk.db")
            if not create and named.get_backend_name() == "sqlite" and not Path(str(named.database)).is_file():
                raise ValueError(f"{named.database}: no such database; modelyard desk, account and label write it")
            self.engine = sql.create_engine(url, pool_size=20, max_overflow=40)
            if self.engine.dialect.name == "sqlite":
                sql.event.listen(self.engine, "connect", _opened)
            sql.event.listen(self.engine, "begin", _begun)
            self._writer = self.engine.execution_options(**{WRITES: True})
            with self._writer.begin() as connection:
                command.upgrade(alembic_config(connection), "head")
        except (SQLAlchemyError, ImportError) as error:
            raise ValueError(f"{without_password(url)}: {complaint(error)}") from None

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that sees one state of the database."""
        with Session(self.engine) as session, session.begin():
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session that is alone in writing; an error takes back all that it did."""
        with self._turn, Session(self._writer) as session, session.begin():
            yield session

    def close(self) -> None:
        """Let go of all connections."""
        self.engine.dispose()


def alembic_config(connection: sql.Connection) -> AlembicConfig:
    """Alembic's settings for the desk's migrations over an open connection."""
    config = AlembicConfig()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config


def _opened(connection: Any, _: Any) -> None:
    """Of SQLite: transactions are ours to begin, readers do not wait for a writer, and a reference holds."""
    connection.isolation_level = None
    for pragma in (f"busy_timeout={PATIENCE_MS}", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begun(connection: sql.Connection) -> None:
    writes = bool(connection.get_execution_options().get(WRITES))
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
    elif writes:
        connection.execute(sql.text("SELECT pg_advisory_xact_lock(:turn)"), {"turn": TURN})
