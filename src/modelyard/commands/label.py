"""``modelyard label``: items into the desk, and what people said of them out again, as files for the next line."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelyard.commands.command import say
from modelyard.commands.numbers import at_least

if TYPE_CHECKING:
    from modelyard.desk.work.batches import BatchConfig, ItemRow
    from modelyard.desk.work.export import Label
    from modelyard.model.asked import Model
    from modelyard.model.scorer_model import ScorerModel


class Form(StrEnum):
    """Whose files."""

    OURS = "ours"
    LABEL_STUDIO = "label-studio"
    POTATO = "potato"


BATCH = typer.Argument(
    help="TOML file that describes a batch: its items, guidelines, overlap, and how answers are drawn.", show_default=False
)
OUT = typer.Option(help="Directory for comparisons, demonstrations and prompts of those who agreed, and every label, as JSON lines.")
ONLY = typer.Option(help="With --out: of this batch alone.", metavar="NAME")
FORM = typer.Option(help="Whose files are written or converted.")
CONVERT = typer.Option(
    help="Export of Label Studio (JSON), or annotations of Potato (a file, or the folder of all annotators).", metavar="PATH"
)
ITEMS = typer.Option(help="With --form potato: the items that were shown, as JSON lines.")
BOOK = typer.Option(help="Database, as a URL of SQLAlchemy's; without it, .modelyard/serving.db.")


def label(
    batch: Annotated[Path | None, BATCH] = None,
    out: Annotated[Path | None, OUT] = None,
    only: Annotated[str | None, ONLY] = None,
    form: Annotated[Form, FORM] = Form.OURS,
    convert: Annotated[Path | None, CONVERT] = None,
    items: Annotated[Path | None, ITEMS] = None,
    book: Annotated[str | None, BOOK] = None,
    threads: Annotated[int, typer.Option(help="CPU threads of a model that draws answers.", callback=at_least(1))] = 2,
) -> None:
    """Put a batch of items before the labelers of modelyard desk, or write what they said (--out).

    The paths and hashes that are printed belong under [[feedback.files]] of a config. With --convert, another tool's file becomes such
    files, and items for a batch.
    """
    if convert is not None:
        if out is None or batch is not None or only is not None:
            raise ValueError("--convert needs --out and neither a batch nor --only; see --help")
        converted(convert, items, form, out)
        return
    if (batch is None) == (out is None):
        raise ValueError("missing a batch's file or --out, one of them; see --help")
    if items is not None or (out is None and (only is not None or form is not Form.OURS)):
        raise ValueError(f"{'--items belongs to --convert' if items else '--only and --form belong to --out'}; see --help")
    from modelyard.commands.feedback import default_book
    from modelyard.desk.database import Database

    if batch is not None:
        config, guidelines, rows = described(batch, threads)
        from modelyard.desk.work.batches import add, check

        check(config, rows)
        with Database(default_book() if book is None else book).write() as session:
            done = add(session, config, guidelines, rows)
        say(f"batch {config.name}: {done.added} items added, {done.there} were there")
        return
    from modelyard.desk.work.export import labels

    assert out is not None
    with Database(default_book("modelyard account") if book is None else book, create=False).read() as session:
        found = labels(session, only)
        if only is not None and not found:
            raise ValueError(f"--only {only}: no labels of such a batch")
        exported(found, form, out)


def exported(found: Sequence[Label], form: Form, out: Path) -> None:
    """Write labels in a form and say what was written."""
    from modelyard.desk.exchange import label_studio, potato
    from modelyard.desk.work.export import write

    if form is Form.OURS:
        told(out, write(found, out))
        return
    out.mkdir(parents=True, exist_ok=True)
    usable = [label for label in found if label.trains]
    if form is Form.LABEL_STUDIO:
        say(f"{out / label_studio.FILE}  {label_studio.write(usable, out / label_studio.FILE)} tasks")
    else:
        say(f"{out}  {potato.write(usable, out)} items")


def converted(path: Path, items: Path | None, form: Form, out: Path) -> None:
    """Write another tool's items and rankings as files of the line and say what was dropped. Raises ValueError."""
    from collections import Counter

    from modelyard.desk.exchange import foreign, label_studio, potato

    if form is Form.OURS:
        raise ValueError("--convert needs --form label-studio or potato; see --help")
    if (form is Form.POTATO) != (items is not None):
        raise ValueError(f"--form {form.value} {'needs' if form is Form.POTATO else 'takes no'} --items; see --help")
    found = potato.read(path, items) if items is not None else label_studio.read(path)
    told(out, foreign.write(found, out))
    for reason, count in Counter(reason for _, reason in found.dropped).most_common():
        say(f"{count} dropped: {reason}")


def told(out: Path, made: dict[str, tuple[int, str]]) -> None:
    """Say what was written, as a config wants it."""
    for name, (count, sha256) in made.items():
        say(f"{out / name}  {count} records  sha256 {sha256}")


def described(file: Path, threads: int) -> tuple[BatchConfig, str, list[ItemRow]]:
    """The batch, its guidelines and its items with the answers that models draw. Raises ValueError."""
    from modelyard.config import load_config, located
    from modelyard.desk.work.batches import BatchConfig, drawn, rows

    config, beside = load_config(BatchConfig, file), located(file).parent
    items, guidelines = rows(beside / config.items), ""
    if config.guidelines:
        guidelines = (beside / config.guidelines).read_text("utf-8")
    if config.draw is not None:
        items = drawn(config.draw, [opened(one, threads) for one in config.draw.models], items)
        kept = [item for item in items if config.kind == "demonstration" or len(set(item.texts)) > 1]
        if len(kept) < len(items):
            say(f"{len(items) - len(kept)} of {len(items)} items left out: fewer than two different answers were drawn")
        items = kept
    if config.reward:
        from modelyard.desk.work.scoring import scored

        items = scored(items, reward_model(config.reward, threads))
    return config, guidelines, items


def reward_model(spec: str, threads: int) -> ScorerModel:
    """The reward model that ``spec`` names. Raises ValueError for a model of another kind."""
    from modelyard.adapters.mlflow.model_source import local_directory
    from modelyard.commands.evaluate import CACHE, MICRO_BATCH
    from modelyard.execution import ExecutionConfig
    from modelyard.formats import json_file
    from modelyard.model.scorer_model import ScorerModel

    directory = local_directory(spec, CACHE / "models")
    if json_file.table(directory / "model.json", "head")["head"] != "scalar":
        raise ValueError(f"{spec}: is no reward model")
    return ScorerModel(directory, ExecutionConfig(threads=threads), MICRO_BATCH)


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
