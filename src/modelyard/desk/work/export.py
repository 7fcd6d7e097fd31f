"""Finished work as files that the next line takes (``[[feedback.files]]``, :mod:`modelyard.data.feedback.files`).

``comparisons.jsonl`` is of shape ``ranked`` with the labeler's pseudonym as rater, ``demonstrations.jsonl`` of shape ``messages``,
``prompts.jsonl`` of shape ``prompts`` holds what labelers wrote to be answered. A record's id names batch, item and labeler, so that
a removal finds it again in artifacts. ``labels.jsonl`` keeps everything else that was said, skips and reports too. Left out of the
first three: screening and attention items, and labelers who did not consent.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sql
from sqlalchemy.orm import Session

from modelyard.desk.tables import Account, Assignment, Batch, Item
from modelyard.desk.work.answers import Ranking, Writing, read
from modelyard.formats.feedback import COMPARISONS, DEMONSTRATIONS, PROMPTS
from modelyard.store.file_hash import sha256_file

LABELS = "labels.jsonl"


class Label(NamedTuple):
    """What a labeler did with an item."""

    batch: Batch
    item: Item
    assignment: Assignment
    labeler: Account

    @property
    def said(self) -> Ranking | Writing:
        """The answer."""
        return read(self.batch.kind, self.assignment.answer, len(self.item.samples))

    @property
    def trains(self) -> bool:
        """Whether it may go to the next line."""
        mine, item = self.assignment, self.item
        return mine.state == "done" and not item.everybody and not item.withheld and self.labeler.consented_at is not None

    @property
    def id(self) -> str:
        """Of its record."""
        return f"{self.batch.name}-{self.item.key}-{self.labeler.pseudonym}"


def labels(session: Session, batch: str | None = None, states: Sequence[str] = ()) -> list[Label]:
    """Every label, or those of one batch or some states, by item and labeler."""
    asked = (
        sql.select(Batch, Item, Assignment, Account)
        .join(Item, Item.batch_id == Batch.id)
        .join(Assignment, Assignment.item_id == Item.id)
        .join(Account, Account.id == Assignment.account_id)
        .order_by(Batch.id, Item.id, Account.pseudonym)
    )
    if batch is not None:
        asked = asked.where(Batch.name == batch)
    if states:
        asked = asked.where(Assignment.state.in_(states))
    return [Label(*row) for row in session.execute(asked)]


def write(found: Sequence[Label], out: Path) -> dict[str, tuple[int, str]]:
    """Write the files into ``out``; file -> number of records and sha256, for the config."""
    out.mkdir(parents=True, exist_ok=True)
    usable = [label for label in found if label.trains]
    files: dict[str, list[dict[str, Any]]] = {
        COMPARISONS: [comparison(label) for label in usable if label.batch.kind == "ranking"],
        DEMONSTRATIONS: [demonstration(label) for label in usable if label.batch.kind == "demonstration"],
        PROMPTS: list(_prompts(usable)),
        LABELS: [label_row(label) for label in found if label.labeler.consented_at is not None],
    }
    made: dict[str, tuple[int, str]] = {}
    for name, rows in files.items():
        (out / name).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
        made[name] = (len(rows), sha256_file(out / name))
    return made


def comparison(label: Label) -> dict[str, Any]:
    """A ranking as a line of shape ``ranked``."""
    said = label.said
    assert isinstance(said, Ranking)
    return {
        **_common(label),
        "prompt": json.loads(label.item.prompt),
        "completions": [sample["text"] for sample in label.item.samples],
        "ranks": list(said.ranks),
    }


def demonstration(label: Label) -> dict[str, Any]:
    """A demonstration as a line of shape ``messages``; where the labeler wrote the prompt, that is it."""
    said = label.said
    assert isinstance(said, Writing)
    prompt = [{"role": "user", "content": said.prompt}] if label.item.asks_prompt else json.loads(label.item.prompt)
    return {**_common(label), "prompt": prompt, "completion": said.completion}


def label_row(label: Label) -> dict[str, Any]:
    """Everything that is known of a label."""
    mine = label.assignment
    return {
        **_common(label),
        "batch": label.batch.name,
        "item": label.item.key,
        "kind": label.batch.kind,
        "state": mine.state,
        "reason": mine.reason,
        "models": [sample["model"] for sample in label.item.samples],
        "shown": mine.shown,
        "at_random": mine.at_random,
        "assigned_at": mine.assigned_at,
        "ended_at": mine.ended_at,
        "seconds": round(mine.seconds, 1),
        "grade": mine.grade,
        **({"answer": mine.answer} if mine.answer else {}),
    }


def _common(label: Label) -> dict[str, Any]:
    category = {"category": label.item.category} if label.item.category else {}
    return {"id": label.id, "rater": label.labeler.pseudonym, **category}


def _prompts(usable: Sequence[Label]) -> Iterator[dict[str, Any]]:
    for label in usable:
        said = label.said
        if isinstance(said, Writing) and label.item.asks_prompt:
            yield {**_common(label), "source": label.item.source, "prompt": [{"role": "user", "content": said.prompt}]}
