"""Demonstrations and prompts of the corpus, and how a demonstration becomes token ids."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from modelyard.model.encoder import Encoder
from modelyard.posttrain.masking import Example


class Demonstration(NamedTuple):
    """A prompt and what a person wrote after it; ``kind`` is ``review`` or ``dialog``."""

    kind: str
    prompt: str
    completion: str


def demonstration(encoder: Encoder, shown: Demonstration) -> Example:
    """Prompt and completion, closed by the token that ends its kind. Raises ValueError for an unknown kind."""
    if shown.kind == "review":
        return Example(encoder.opening(shown.prompt), [*encoder.ids(shown.completion), encoder.document_end])
    if shown.kind == "dialog":
        return Example(encoder.turn(shown.prompt), [*encoder.ids(shown.completion), encoder.turn_end])
    raise ValueError(f"demonstration kind {shown.kind!r} is neither review nor dialog")


def read_demonstrations(path: Path, split: str) -> list[Demonstration]:
    """The demonstrations of one split; raises ValueError if there are none."""
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    found = [Demonstration(row["kind"], row["prompt"], row["completion"]) for row in rows if row["split"] == split]
    if not found:
        raise ValueError(f"{path.name}: no demonstrations of split {split!r}")
    return found


def read_prompts(path: Path) -> list[str]:
    """The openings PPO samples from; raises ValueError if there are none."""
    found = [str(json.loads(line)["prompt"]) for line in path.read_text("utf-8").splitlines()]
    if not found:
        raise ValueError(f"{path.name}: no prompts")
    return found
