"""``modelyard label``: items into the desk, and what people said of them out again, as files for the next line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelyard.commands.command import say
from modelyard.commands.numbers import at_least

if TYPE_CHECKING:
    from modelyard.desk.work.batches import BatchConfig, ItemRow
    from modelyard.model.asked import Model

BATCH = typer.Argument(
    help="TOML file that describes a batch: its items, guidelines, overlap, and how answers are drawn.", show_default=False
)
OUT = typer.Option(help="Directory for comparisons, demonstrations and prompts of those who agreed, and every label, as JSON lines.")
ONLY = typer.Option(help="With --out: of this batch alone.", metavar="NAME")
BOOK = typer.Option(help="Database, as a URL of SQLAlchemy's; without it, .modelyard/serving.db.")


def label(
    batch: Annotated[Path | None, BATCH] = None,
    out: Annotated[Path | None, OUT] = None,
    only: Annotated[str | None, ONLY] = None,
    book: Annotated[str | None, BOOK] = None,
    threads: Annotated[int, typer.Option(help="CPU threads of a model that draws answers.", callback=at_least(1))] = 2,
) -> None:
    """Put a batch of items before the labelers of modelyard desk, or write what they said (--out).

    The paths and hashes that are printed belong under [[feedback.files]] of a config.
    """
    if (batch is None) == (out is None):
        raise ValueError("give a batch's file or --out; see --help")
    if only is not None and out is None:
        raise ValueError("--only belongs to --out; see --help")
    from modelyard.commands.feedback import default_book
    from modelyard.desk.database import Database

    if batch is not None:
        config, guidelines, items = described(batch, threads)
        from modelyard.desk.work.batches import add

        with Database(book or default_book()).write() as session:
            done = add(session, config, guidelines, items)
        say(f"batch {config.name}: {done.added} items added, {done.there} were there")
        return
    from modelyard.desk.work.export import labels, write

    assert out is not None
    with Database(book or default_book()).read() as session:
        found = labels(session, only)
        if only is not None and not found:
            raise ValueError(f"--only {only}: no labels of such a batch")
        for name, (count, sha256) in write(found, out).items():
            say(f"{out / name}  {count} records  sha256 {sha256}")


def described(file: Path, threads: int) -> tuple[BatchConfig, str, list[ItemRow]]:
    """The batch, its guidelines and its items with the answers that models draw. Raises ValueError."""
    from modelyard.config import load_config
    from modelyard.desk.work.batches import BatchConfig, drawn, rows

    config = load_config(BatchConfig, file)
    items, guidelines = rows(file.parent / config.items), ""
    if config.guidelines:
        guidelines = (file.parent / config.guidelines).read_text("utf-8")
    if config.draw is not None:
        items = drawn(config.draw, [opened(one, threads) for one in config.draw.models], items)
    return config, guidelines, items


def opened(spec: str, threads: int) -> Model:
    """The model that ``spec`` names."""
    from modelyard.adapters.mlflow.model_source import local_directory
    from modelyard.commands.evaluate import CACHE, MICRO_BATCH
    from modelyard.execution import ExecutionConfig
    from modelyard.model.endpoint import Endpoint
    from modelyard.model.subject import Subject

    if spec.startswith(("http://", "https://")):
        return Endpoint(spec)
    return Subject.open(spec, local_directory(spec, CACHE / "models"), ExecutionConfig(threads=threads), MICRO_BATCH)
