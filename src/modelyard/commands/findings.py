"""``modelyard findings``: what the red team found and an expert confirmed, as training data and as a benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modelyard.commands.command import say

OUT = typer.Option(help="Directory for prompts, demonstrations, comparisons, and the benchmark findings.jsonl with its findings.toml.")
CONFIG = typer.Option(help="The desk's TOML file: which families of attacks measure and never train.")
BOOK = typer.Option(help="Database, as a URL of SQLAlchemy's; without it, .modelyard/serving.db.")


def findings(
    out: Annotated[Path, OUT],
    config: Annotated[Path | None, CONFIG] = None,
    book: Annotated[str | None, BOOK] = None,
) -> None:
    """Write confirmed findings for the next line: some families train it, others measure it and are never trained on.

    The paths and hashes that are printed belong under [[feedback.files]] of a config; findings.toml is the benchmark's table.
    """
    import sqlalchemy as sql

    from modelyard.commands.feedback import default_book
    from modelyard.config import load_config
    from modelyard.desk.database import Database
    from modelyard.desk.red_team.regression import write
    from modelyard.desk.settings import DeskConfig
    from modelyard.desk.tables import Finding

    settings = load_config(DeskConfig, config) if config else DeskConfig()
    with Database(default_book("modelyard account") if book is None else book, create=False).read() as session:
        confirmed = session.scalars(sql.select(Finding).order_by(Finding.id)).all()
        for name, (count, sha256) in write(confirmed, settings.regression_families, out).items():
            say(f"{out / name}  {count} records  sha256 {sha256}")
