"""``modelyard feedback``: what users said of served answers, as files for the next line; and withdrawal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelyard.commands.command import say

if TYPE_CHECKING:
    from modelyard.serving.book import Book

OUT = typer.Option(help="Directory for prompts, demonstrations, comparisons, thumbs and flags of users who agreed, as JSON lines.")
WITHDRAW = typer.Option(help="Remove all that is this user's, and name the artifacts that hold it.", metavar="USER")
BOOK = typer.Option(help="Database that modelyard serve writes, as a URL of SQLAlchemy's; without it, .modelyard/serving.db.")

DATABASE = "serving.db"
"""This machine's, in the home directory."""


def feedback(
    out: Annotated[Path | None, OUT] = None,
    withdraw: Annotated[str | None, WITHDRAW] = None,
    book: Annotated[str | None, BOOK] = None,
    store: Annotated[str | None, typer.Option(help="URL of the artifact store that withdrawal looks in.")] = None,
) -> None:
    """Write what users agreed to give to the next line (--out), or take back what is a user's (--withdraw).

    The paths and hashes that are printed belong under [[feedback.files]] of a config.
    """
    if out is None and withdraw is None:
        raise ValueError("missing --out or --withdraw; see --help")
    if out is not None and withdraw is not None:
        raise ValueError("--out and --withdraw are two things; see --help")
    from modelyard.execution import ExecutionConfig
    from modelyard.serving.book import Book
    from modelyard.serving.next_line import holding, write
    from modelyard.store.artifacts import Store

    opened = Book(default_book("modelyard serve") if book is None else book)
    if out is not None:
        for name, (count, sha256) in write(opened.agreed(), out).items():
            say(f"{out / name}  {count} records  sha256 {sha256}")
        return
    receipts = withdrawn(opened, str(withdraw))
    say(f"{len(receipts)} answers removed")
    for ref in holding(Store(store or ExecutionConfig().store, ExecutionConfig().scratch), receipts) if receipts else ():
        say(f"held by {ref}: build it again from files without them")


def withdrawn(book: Book, user: str) -> list[str]:
    """Receipts of a user's answers, which are removed: from MLflow's traces first, since only the book knows whose they are.

    Raises ServerError where MLflow does not answer; then nothing is removed from the book.
    """
    from modelyard.adapters.mlflow.server import answering, tracking_uri
    from modelyard.adapters.mlflow.traces import withdraw

    uri, traced = tracking_uri(), 0
    known = book.receipts(user)
    local = uri.removeprefix("sqlite:///") if uri.startswith("sqlite:///") else None
    if known and (local is None or Path(local).is_file()):
        with answering(uri):
            traced = withdraw(uri, known)
    if traced:
        say(f"{traced} traces removed from MLflow")
    return book.withdraw(user)


def default_book(written_by: str = "") -> str:
    """URL of this machine's database; ValueError where it must have been ``written_by`` a command and is not there."""
    from modelyard.adapters.home import home, opened

    if written_by and not (home() / DATABASE).is_file():
        raise ValueError(f"{home() / DATABASE}: no such file; {written_by} writes it")
    return f"sqlite:///{opened() / DATABASE}"
