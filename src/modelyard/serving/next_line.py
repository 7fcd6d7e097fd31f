"""What users said, as files that the next line takes: prompts, demonstrations, comparisons, thumbs and flagged outputs.

Only answers whose users agreed, and none about images, of which the book keeps the ids alone. The shapes are those of
``[[feedback.files]]`` (:mod:`modelyard.data.feedback.files`); a record's id is its answer's receipt, by which a withdrawal finds it
again in artifacts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from modelyard.formats.feedback import COMPARISONS, DEMONSTRATIONS, PROMPTS, THUMBS, Prompt, images_of
from modelyard.formats.flags import FLAGS
from modelyard.serving.book import Kept
from modelyard.store import lineage
from modelyard.store.artifacts import Store
from modelyard.store.file_hash import sha256_file

USED = ("feedback", "instructions", "ai_feedback")
"""Stages whose artifacts hold records of users."""


def write(kept: Sequence[Kept], out: Path) -> dict[str, tuple[int, str]]:
    """Write the files into ``out``; file -> number of records and sha256, for the config."""
    out.mkdir(parents=True, exist_ok=True)
    kept = [one for one in kept if not images_of(one.entry.prompt)]
    files = {
        PROMPTS: [{**_common(one), "source": "user"} for one in kept],
        DEMONSTRATIONS: [{**_common(one), "source": "user", "completion": better} for one in kept for better in _better(one)],
        COMPARISONS: [
            {**_common(one), "source": "user", "rater": one.entry.user, "chosen": better, "rejected": one.entry.reply}
            for one in kept
            for better in _better(one)
            if one.entry.reply
        ],
        THUMBS: [
            {**_common(one), "source": "user", "rater": one.entry.user, "completion": one.entry.reply, "label": rating == "up"}
            for one in kept
            for rating in _rating(one)
            if one.entry.reply
        ],
        FLAGS: list(_flags(kept)),
    }
    made: dict[str, tuple[int, str]] = {}
    for name, rows in files.items():
        (out / name).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
        made[name] = (len(rows), sha256_file(out / name))
    return made


def holding(store: Store, receipts: Sequence[str]) -> list[str]:
    """``name/version`` of the artifacts that hold records of these answers, each followed by all that was made of it."""
    holds = [one for one in lineage.all_artifacts(store) if one.name in USED and _mentions(store.fetch(one), receipts)]
    made = [below.ref for one in holds for below in lineage.invalidated(store, one.ref)]
    return list(dict.fromkeys([*(one.ref for one in holds), *made]))


def _common(one: Kept) -> dict[str, Any]:
    return {"id": one.entry.receipt, "prompt": _prompt(one.entry.prompt), "user": one.entry.user, "consent": True}


def _prompt(prompt: Prompt) -> Any:
    return prompt if isinstance(prompt, str) else [message.model_dump() for message in prompt]


def _better(one: Kept) -> list[str]:
    """The last better answer of its user, if any, unless it is what the model said."""
    given = [opinion.better for opinion in one.opinions if opinion.better]
    return [text for text in given[-1:] if text != one.entry.reply]


def _rating(one: Kept) -> Sequence[str]:
    """The last thumb of its user, if any."""
    return [opinion.rating for opinion in one.opinions if opinion.rating][-1:]


def _flags(kept: Sequence[Kept]) -> Iterator[dict[str, Any]]:
    for one in kept:
        flagged = any(opinion.not_factual for opinion in one.opinions)
        liked = any(opinion.rating == "up" for opinion in one.opinions)
        if one.entry.reply and (flagged or liked):
            shown = {**_common(one), "source": "user", "rater": one.entry.user, "completion": one.entry.reply}
            yield {**shown, "factual": not flagged, "correction": next(iter(_better(one)), "") if flagged else ""}


def _mentions(directory: Path, receipts: Sequence[str]) -> bool:
    """Whether a record's id, or that of what a teacher was shown for it, names one of the receipts."""
    rows = (json.loads(line) for file in sorted(directory.glob("*.jsonl")) for line in file.read_text("utf-8").splitlines())
    named = (str(name) for row in rows for name in (row.get("id", ""), *row.get("shown", ())))
    return any(receipt in name for name in named for receipt in receipts)
