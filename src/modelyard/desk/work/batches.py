"""Batches of items: read from a prompts file, with the answers that a model drew or that the file brings.

A batch is described by TOML, its items are JSON lines: a prompt (:class:`modelyard.formats.feedback.PromptRecord`'s keys fit), and
where they are known ``completions``, ``scores`` of a reward model or ``judges``' rankings that say how much an item is worth, and
``reference`` where the right answer is known. Importing a batch again adds what is new and leaves the rest as it is.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import sqlalchemy as sql
from pydantic import ConfigDict, Field, model_validator
from sqlalchemy.orm import Session

from modelyard.config import Config
from modelyard.data.corpus.splits import fraction
from modelyard.desk import audit
from modelyard.desk.tables import Batch, Item
from modelyard.desk.work.answers import RANKED
from modelyard.desk.work.value import disagreement, unsureness
from modelyard.formats.feedback import MOST_COMPLETIONS, Prompt, PromptSource, json_lines, record
from modelyard.model.asked import Decoding, Model


class Drawing(Config):
    """How the answers to be ranked are drawn."""

    models: tuple[str, ...] = Field(min_length=1)
    """``models:/NAME@ALIAS``, directories, or ``http://host:port/v1#MODEL``; each draws an equal share, and labelers are not told which."""
    k: int = Field(default=4, ge=1, le=MOST_COMPLETIONS)
    """Answers to each prompt (InstructGPT: 4 to 9); of demonstrations, suggestions."""
    max_new_tokens: int = Field(default=256, ge=1)
    """Longest answer."""
    temperature: float = Field(default=1.0, gt=0)
    """Of the answers."""
    seed: int = Field(default=0, ge=0)
    """Of the draws."""


class BatchConfig(Config):
    """A batch of work."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,80}$")
    """Its name, which begins the ids of its records."""
    kind: Literal["ranking", "statements", "demonstration"]
    """What labelers do; statements are ranked by what is true, without marks and metadata, and train nothing."""
    items: str
    """JSON lines; a relative path starts beside this file."""
    guidelines: str = ""
    """Text file that is shown beside every item; a relative path starts beside this file."""
    overlap: int = Field(default=1, ge=1, le=100)
    """How many labelers each item gets."""
    screening: bool = False
    """Whether it comes before work: everybody gets every item, and nothing of it is exported."""
    draw: Drawing | None = None
    """How answers are drawn; absent: the items bring them."""
    reward: str = ""
    """Reward model (``models:/NAME@ALIAS`` or a directory): items whose answers it is unsure of come first. "": what the items say."""


class Reference(Config):
    """What is known of an item."""

    ranks: tuple[int, ...] = ()
    """The right order."""
    sensitive: tuple[bool, ...] = ()
    """Which answers are sensitive speech."""


class Completion(Config):
    """An answer to rank and who gave it."""

    text: str
    model: str = ""


class ItemRow(Config):
    """A line of the items' file."""

    model_config = ConfigDict(extra="ignore")

    id: str = Field(min_length=1, max_length=200)
    prompt: Prompt
    category: str = Field(default="", max_length=80)
    source: PromptSource = "labeler_plain"
    completions: tuple[Annotated[str | Completion, Field(union_mode="left_to_right")], ...] = Field(default=(), max_length=MOST_COMPLETIONS)
    asks_prompt: bool = False
    """Of a demonstration: ``prompt`` says what the labeler shall ask, and they write prompt and answer."""
    value: float | None = None
    scores: tuple[float, ...] = ()
    """A reward model's, one a completion."""
    judges: tuple[tuple[int, ...], ...] = ()
    """Ranks by several judges."""
    reference: Reference | None = None
    attention: bool = False
    """Whether everybody gets it now and then, to see whether they read; nothing of it is exported."""

    @model_validator(mode="after")
    def _fits(self) -> ItemRow:
        known = [("scores", self.scores), *(("judges", ranks) for ranks in self.judges)]
        if self.reference:
            known += [("reference.ranks", self.reference.ranks), ("reference.sensitive", self.reference.sensitive)]
        for key, values in known:
            if values and len(values) != len(self.completions):
                raise ValueError(f"{key}: {len(values)} for {len(self.completions)} completions")
        if self.attention and self.reference is None:
            raise ValueError("reference: needed of an attention item")
        return self

    @property
    def texts(self) -> list[str]:
        """The answers."""
        return [one if isinstance(one, str) else one.text for one in self.completions]

    @property
    def worth(self) -> float:
        """How early it should be looked at, from 0 to 1 where it is computed."""
        return self.value if self.value is not None else max(unsureness(self.scores), disagreement(self.judges))


class Imported(NamedTuple):
    """What an import did."""

    added: int
    there: int
    """Items that the batch had already."""


def rows(path: Path) -> list[ItemRow]:
    """The lines of an items' file. Raises FeedbackError, also where two have one id."""
    found = [record(ItemRow, line) for line in json_lines(path)]
    seen: set[str] = set()
    for row in found:
        if row.id in seen:
            raise ValueError(f"{path}: id {row.id!r}: two items have it")
        seen.add(row.id)
    if not found:
        raise ValueError(f"{path}: no items")
    return found


def drawn(config: Drawing, models: Sequence[Model], items: Sequence[ItemRow]) -> list[ItemRow]:
    """The items with up to K distinct answers of the models in turn; one that says nothing or the same again is drawn anew, K times at most."""
    texts: list[dict[str, str]] = [{} for _ in items]
    for place in range(2 * config.k):
        model = models[place % len(models)]
        how = Decoding(max_new_tokens=config.max_new_tokens, temperature=config.temperature, samples=1, seed=config.seed + place)
        for asks, of_text in ((model.complete, True), (model.reply, False)):
            wanted = [n for n, item in enumerate(items) if isinstance(item.prompt, str) is of_text and len(texts[n]) < config.k]
            for number, said in zip(wanted, asks([items[n].prompt for n in wanted], how) if wanted else (), strict=True):
                if said.text.strip():
                    texts[number].setdefault(said.text, model.name)
    return [
        item.model_copy(update={"completions": tuple(Completion(text=text, model=name) for text, name in found.items())})
        for item, found in zip(items, texts, strict=True)
    ]


def check(config: BatchConfig, items: Sequence[ItemRow]) -> None:
    """Raise ValueError for an item that nobody can work on."""
    for item in items:
        texts = set(item.texts)
        if config.kind in RANKED and len(texts) < 2:
            raise ValueError(f"item {item.id}: a ranking needs two different answers, got {len(texts)}")
        if config.kind not in RANKED and item.reference:
            raise ValueError(f"item {item.id}: reference: is of rankings")


def add(session: Session, config: BatchConfig, guidelines: str, items: Sequence[ItemRow]) -> Imported:
    """Put a batch and its items into the database. Raises ValueError where the batch there is of another kind."""
    check(config, items)
    batch = session.scalars(sql.select(Batch).where(Batch.name == config.name)).first()
    if batch is None:
        batch = Batch(name=config.name, created_at=time.time(), open=True, kind=config.kind, screening=config.screening)
        session.add(batch)
    elif (batch.kind, batch.screening) != (config.kind, config.screening):
        raise ValueError(f"batch {config.name}: is there already as {'screening ' if batch.screening else ''}{batch.kind}")
    batch.guidelines, batch.overlap = guidelines, config.overlap
    session.flush()
    there = set(session.scalars(sql.select(Item.key).where(Item.batch_id == batch.id)))
    new = [item for item in items if item.id not in there]
    session.add_all(_item(config, batch.id, item) for item in new)
    audit.note(session, audit.COMMAND, "batch imported", config.name, added=len(new), overlap=config.overlap)
    return Imported(len(new), len(items) - len(new))


def _item(config: BatchConfig, batch: int, row: ItemRow) -> Item:
    samples = [Completion(text=one) if isinstance(one, str) else one for one in row.completions]
    return Item(
        batch_id=batch,
        key=row.id,
        prompt=json.dumps(plain(row.prompt), ensure_ascii=False),
        asks_prompt=row.asks_prompt and config.kind == "demonstration",
        category=row.category,
        source=row.source,
        samples=[one.model_dump() for one in samples],
        reference=row.reference.model_dump(mode="json") if row.reference else None,
        everybody=config.screening or row.attention,
        value=row.worth,
        draw=fraction(f"{config.name}:{row.id}"),
        withheld=False,
    )


def plain(prompt: Prompt) -> Any:
    """A prompt as JSON."""
    return prompt if isinstance(prompt, str) else [message.model_dump() for message in prompt]
