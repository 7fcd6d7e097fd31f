"""``modelyard desk``: labelers, red teamers and releasers at one web page; ``modelyard account``: who may sign in."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelyard.commands.command import say
from modelyard.commands.numbers import between

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from modelyard.desk.tables import Account
    from modelyard.store.artifacts import Store

LONGEST_LINE = 4096
LAST_SECONDS = 5
"""How long a page under way may take when the desk is told to go."""
WRITTEN_BY = "modelyard account"
BOOK = typer.Option(help="Database, as a URL of SQLAlchemy's; without it, .modelyard/serving.db.")
CONFIG = typer.Option(help="TOML file with the desk's settings: hosts, a proxy's header, limits, targets of the red team.")
HOST = typer.Option(help="Address to listen on; behind 127.0.0.1 belongs a proxy with TLS.")
ROLE = typer.Option(help="labeler, expert, releaser, admin; several words for several roles.")
PASSWORD = typer.Option(help="File whose first line is the password; - is standard input. Without it, you are asked.")
WITHOUT = typer.Option(help="No password: a proxy signs this account in.")
STORE = typer.Option(help="URL of the artifact store that releases are read from and that a removal looks in.")


def desk(
    config: Annotated[Path | None, CONFIG] = None,
    host: Annotated[str, HOST] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0: any that is free.", callback=between(0, 65535))] = 8010,
    book: Annotated[str | None, BOOK] = None,
    store: Annotated[str | None, STORE] = None,
) -> None:
    """Serve the desk until interrupted. The first admin comes from modelyard account NAME --role admin."""
    from modelyard.commands.feedback import default_book
    from modelyard.config import load_config
    from modelyard.desk.database import Database
    from modelyard.desk.releases import Releases
    from modelyard.desk.settings import DeskConfig
    from modelyard.desk.web.app import application
    from modelyard.serving.listening import listen

    settings = load_config(DeskConfig, config) if config else DeskConfig()
    database = Database(default_book() if book is None else book)
    try:
        app = application(database, settings, Releases(opened_store(store)))
        listen(app, host, port, lambda address: say(f"desk at {address}; Ctrl-C ends it"), LAST_SECONDS)
    finally:
        database.close()


def account(
    name: Annotated[str, typer.Argument(help="Name to sign in with.", show_default=False)],
    role: Annotated[list[str] | None, ROLE] = None,
    password_file: Annotated[str | None, PASSWORD] = None,
    no_password: Annotated[bool, WITHOUT] = False,
    remove: Annotated[
        bool, typer.Option(help="Remove the account with everything that it wrote, and name the artifacts that hold it.")
    ] = False,
    book: Annotated[str | None, BOOK] = None,
    store: Annotated[str | None, STORE] = None,
) -> None:
    """Make an account of the desk, give it other roles or another password, or remove it (--remove)."""
    from modelyard.commands.feedback import default_book
    from modelyard.desk import accounts, audit
    from modelyard.desk.database import Database

    if remove and (role or password_file or no_password):
        raise ValueError("--remove stands alone; see --help")
    if not remove and not role and password_file is None:
        raise ValueError("missing --role, --password-file or --remove; see --help")
    if remove:
        url = default_book(WRITTEN_BY) if book is None else book
        with Database(url, create=False).write() as session:
            gone = accounts.remove(session, audit.COMMAND, accounts.find(session, name))
        say(f"{gone.pseudonym} removed: {gone.answers} answers, {gone.chats} chats")
        held_by(gone.pseudonym, store)
        return
    accounts.check(name, role)
    given = None if password_file is None else read_password(password_file)
    if given is not None:
        accounts.check_password(given)
    database = Database(default_book("" if role else WRITTEN_BY) if book is None else book, create=bool(role))
    with database.read() as session:
        there = session.scalars(accounts.named(name)).first() is not None
    if not there and given is None and not no_password:
        given = read_password(None)
    with database.write() as session:
        found = changed(session, name, role, given) if there else accounts.create(session, audit.COMMAND, name, role or [], given)
        say(f"{found.name}: {', '.join(found.roles)}; in records {found.pseudonym}")


def changed(session: Session, name: str, roles: list[str] | None, password: str | None) -> Account:
    """An account with other roles or another password. Raises ValueError."""
    from modelyard.desk import accounts, audit

    found = accounts.find(session, name)
    if roles:
        accounts.set_roles(session, audit.COMMAND, found, roles)
    if password is not None:
        accounts.set_password(session, audit.COMMAND, found, password)
    return found


def held_by(pseudonym: str, store: str | None) -> None:
    """Name the artifacts that hold a labeler's records."""
    from modelyard.serving.next_line import holding

    for ref in holding(opened_store(store), [pseudonym]):
        say(f"held by {ref}: build it again from files without them")


def opened_store(url: str | None) -> Store:
    """The artifact store at ``url``, or this installation's."""
    from modelyard.execution import ExecutionConfig
    from modelyard.store.artifacts import Store

    return Store(url or ExecutionConfig().store, ExecutionConfig().scratch)


def read_password(file: str | None) -> str:
    """A password from a file, from standard input or from whoever sits at the terminal. Raises ValueError."""
    if file == "-":
        return sys.stdin.readline().rstrip("\n")
    if file is not None:
        with Path(file).open(encoding="utf-8") as opened:
            return opened.readline(LONGEST_LINE).rstrip("\n")
    if not sys.stdin.isatty():
        raise ValueError("nobody is at the terminal to ask for a password; give --password-file")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
