"""What feedback is being gathered into: the sets of records, what was left out and why, and prompts on their way in."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from modelyard.data.feedback.agreement import folded, said
from modelyard.data.feedback.config import FeedbackConfig
from modelyard.data.feedback.file_images import Named
from modelyard.data.feedback.files import Entry
from modelyard.formats.feedback import (
    COMPARISONS,
    DEMONSTRATIONS,
    PROMPTS,
    THUMBS,
    Comparison,
    Demonstration,
    Prompt,
    PromptRecord,
    Thumb,
    images_of,
    write,
)
from modelyard.formats.flags import FLAGS, Flag


def split_of(place: float, config: FeedbackConfig) -> Literal["train", "validation"]:
    """The side of the split on which a place in [0, 1) lies."""
    return "validation" if place < config.splits.held_out else "train"


class Sets(NamedTuple):
    """What is being gathered."""

    demonstrations: list[Demonstration]
    comparisons: list[Comparison]
    thumbs: list[Thumb]
    flags: list[Flag]
    prompts: list[PromptRecord]
    dropped: list[dict[str, str]]
    counts: Counter[str]
    """What is not a drop: redactions by kind, keys passed over."""
    images: dict[str, Named]
    """Id of an image that a file names -> where it is."""

    def named(self) -> dict[str, Sequence[Demonstration | Comparison | Thumb | Flag | PromptRecord]]:
        """Every set by its name."""
        return {
            "demonstrations": self.demonstrations,
            "comparisons": self.comparisons,
            "thumbs": self.thumbs,
            "flags": self.flags,
            "prompts": self.prompts,
        }

    def drop(self, name: str, reason: str, where: str) -> None:
        """Note that something is left out."""
        self.dropped.append({"id": name, "reason": reason, "where": where})

    def write(self, out: Path) -> None:
        """Every set, and what was left out."""
        write(out / DEMONSTRATIONS, self.demonstrations)
        write(out / COMPARISONS, self.comparisons)
        write(out / THUMBS, self.thumbs)
        write(out / PROMPTS, self.prompts)
        if self.flags:
            write(out / FLAGS, self.flags)
        (out / "dropped.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in self.dropped), "utf-8")

    def metrics(self) -> dict[str, float]:
        """Sizes by split, prompts by source, drops by reason, redactions by kind."""
        counts: Counter[str] = Counter()
        counts.update(f"{name}/{one.split}" for name, records in self.named().items() for one in records)
        counts.update(f"thumbs/{one.split}/{'up' if one.label else 'down'}" for one in self.thumbs)
        counts.update(f"flags/{one.split}/{'factual' if one.factual else 'not_factual'}" for one in self.flags)
        counts.update(f"prompts_from/{one.source}" for one in self.prompts)
        counts.update(f"dropped/{row['reason']}" for row in self.dropped)
        return {f"feedback/{key}": float(count) for key, count in sorted((counts + self.counts).items())}


class Prompts:
    """Prompts of one file on their way into the set, with what is known of the earlier ones."""

    def __init__(self, config: FeedbackConfig, sets: Sets) -> None:
        self.config, self.sets = config, sets
        self.seen = {self._prefix(record.prompt) for record in sets.prompts}
        self.users: Counter[str] = Counter()

    def add(self, entry: Entry, place: float) -> bool:
        """Keep the prompt unless it begins like another or its user has given enough; whether it is kept."""
        prefix = self._prefix(entry.prompt)
        if prefix in self.seen:
            self.sets.drop(entry.id, "shared_prefix", entry.where)
            return False
        self.users[entry.group] += 1
        if entry.group and self.users[entry.group] > self.config.prompts_per_user:
            self.sets.drop(entry.id, "too_many_of_user", entry.where)
            return False
        self.seen.add(prefix)
        self.sets.prompts.append(
            PromptRecord(
                id=entry.id,
                split=split_of(place, self.config),
                source=entry.source,
                category=entry.category,
                prompt=entry.prompt,
                answer=entry.answer,
            )
        )
        return True

    def _prefix(self, prompt: Prompt) -> str:
        return "".join((*images_of(prompt), folded(said(prompt))[: self.config.prefix_characters]))
