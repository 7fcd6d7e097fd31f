"""Doubtful labels of harm as a batch of the desk, and the labelers' votes as answers (:mod:`modelyard.formats.harm_reviews`).

Each label is two statements to rank, so the desk gives it to several people, blind to what the label says; ties count for neither.
More than half of those who ranked it decide. Left out: weighing labelers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field

from modelyard.config import Config, digest
from modelyard.formats.feedback import json_lines, record
from modelyard.formats.harm_reviews import Review

OVERLAP = 3
"""Labelers a label, unless the batch's file is changed."""
GUIDELINES = """Read the text, then put the statement that is true of it first. It may quote, report or condemn harm without doing any.
Put both on one rank only where you cannot tell.
"""


class Voted(Config):
    """What is read of a line of the desk's ``labels.jsonl``."""

    model_config = ConfigDict(extra="ignore")

    item: str
    state: str
    answer: dict[str, Any] = Field(default_factory=dict)


def write_batch(reviews: Sequence[Review], out: Path) -> str:
    """``batch.toml``, ``items.jsonl`` and ``guidelines.txt`` for ``modelyard label``; the batch's name."""
    out.mkdir(parents=True, exist_ok=True)
    rows = [
        {
            "id": key(one),
            "prompt": [{"role": "user", "content": f"Is this {one.category}?\n\n{one.text}"}],
            "completions": [f"It is {one.category}.", f"It is not {one.category}."],
            "value": one.doubt,
        }
        for one in reviews
    ]
    name = f"harms-{digest(rows)[:12]}"
    (out / "items.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    (out / "guidelines.txt").write_text(GUIDELINES, "utf-8")
    (out / "batch.toml").write_text(
        f'name = "{name}"\nkind = "statements"\nitems = "items.jsonl"\nguidelines = "guidelines.txt"\noverlap = {OVERLAP}\n', "utf-8"
    )
    return name


def voted(reviews: Sequence[Review], labels: Path) -> list[Review]:
    """The reviews with the answers of the desk's ``labels.jsonl``; an answer that is there already stays. Raises FeedbackError."""
    votes: dict[str, list[int]] = {}
    for line in json_lines(labels):
        vote = record(Voted, line)
        ranks = vote.answer.get("ranks")
        if vote.state == "done" and isinstance(ranks, list) and len(ranks) == 2:
            yes, no = ranks
            votes.setdefault(vote.item, []).append((yes < no) - (yes > no))
    return [answered(one, votes.get(key(one), [])) for one in reviews]


def answered(review: Review, votes: Sequence[int]) -> Review:
    """The review by votes of 1 (it is so), -1 (it is not) and 0 (cannot be told)."""
    for answer, sign in ((1, 1), (0, -1)):
        if review.answer is None and 2 * (count := votes.count(sign)) > len(votes):
            return review.model_copy(update={"answer": answer, "by": f"{count} of {len(votes)} labelers"})
    return review


def key(review: Review) -> str:
    """Of the desk's item."""
    return f"{review.id}-{review.category}"
