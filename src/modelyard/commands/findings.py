"""``modelyard findings``: what the red team found and an expert confirmed, as training data and as a benchmark; and the hits of garak
and PyRIT into the desk."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelyard.commands.command import say

if TYPE_CHECKING:
    from modelyard.desk.database import Database

OUT = typer.Option(
    help="Directory for prompts, demonstrations, comparisons, and the benchmark findings.jsonl with its findings.toml and labelled replies."
)
CONFIG = typer.Option(help="The desk's TOML file: which families of attacks measure and never train.")
GARAK = typer.Option(help="Report of garak (report.jsonl): its hits become findings that an expert decides about.")
PYRIT = typer.Option(help="PyRIT's conversations (JSON of message pieces with their scores): the same of theirs.")
REPORTER = typer.Option(help="With --garak or --pyrit: the account that reports them; another expert decides.", metavar="NAME")
BOOK = typer.Option(help="Database, as a URL of SQLAlchemy's; without it, .modelyard/serving.db.")


def findings(
    out: Annotated[Path | None, OUT] = None,
    config: Annotated[Path | None, CONFIG] = None,
    garak: Annotated[Path | None, GARAK] = None,
    pyrit: Annotated[Path | None, PYRIT] = None,
    reporter: Annotated[str | None, REPORTER] = None,
    book: Annotated[str | None, BOOK] = None,
) -> None:
    """Write confirmed findings for the next line (--out): some families train it, others measure it and are never trained on.

    The paths and hashes that are printed belong under [[feedback.files]] of a config; findings.toml is the benchmark's table.
    """
    if sum(one is not None for one in (out, garak, pyrit)) != 1:
        raise ValueError("missing --out, --garak or --pyrit, one of them; see --help")
    if (out is None) != (reporter is not None):
        raise ValueError("--garak and --pyrit need --reporter, and nothing else has one; see --help")
    from modelyard.commands.feedback import default_book
    from modelyard.config import load_config
    from modelyard.desk.database import Database
    from modelyard.desk.red_team.findings import exportable, unagreed
    from modelyard.desk.red_team.regression import write
    from modelyard.desk.settings import DeskConfig

    settings = load_config(DeskConfig, config) if config else DeskConfig()
    url = default_book("modelyard account") if book is None else book
    if out is None:
        taken(garak, pyrit, str(reporter), Database(url, create=False))
        return
    with Database(url, create=False).read() as session:
        agreed, withheld = exportable(session), unagreed(session)
        for name, (count, sha256) in write(agreed, settings.regression_families, out).items():
            say(f"{out / name}  {count} records  sha256 {sha256}")
        if withheld:
            say(f"left out: {withheld} confirmed findings of people who have not agreed, on their page /me, that what they write is used")


def taken(garak: Path | None, pyrit: Path | None, reporter: str, database: Database) -> None:
    """Put the hits of a report before the experts."""
    from modelyard.desk import accounts
    from modelyard.desk.exchange import garak as of_garak
    from modelyard.desk.exchange import pyrit as of_pyrit
    from modelyard.desk.red_team.findings import mark

    tool, report = ("garak", garak) if garak else ("PyRIT", pyrit)
    assert report
    found, dropped = (list(of_garak.hits(report)), list[str]()) if garak else of_pyrit.hits(report)
    with database.write() as session:
        by = accounts.find(session, reporter)
        marked = [mark(session, by, f"{tool} {report.name}", hit.messages, hit.marked) for hit in found]
        repeats = sum(one.repeats is not None for one in marked)
    say(f"{len(marked)} findings reported, {repeats} of them repeats")
    for reason, count in Counter(dropped).items():
        say(f"{count} conversations dropped: {reason}")
