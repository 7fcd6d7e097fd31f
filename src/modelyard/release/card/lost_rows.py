"""What the card says of texts that were too long: how many rows each stage of alignment left out or cut, and how many teach never to stop.

Read from the stages' own metrics. A row teaches never to stop where it is trained on and no token closes it that ends an answer: a demonstration
without an end, or a sampled completion that was cut and yet made likelier. Left out: pretraining text, whose rows go on from one to the next.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from modelyard.store.manifest import MANIFEST


class Keys(NamedTuple):
    """Where a stage's counts stand among its metrics; "" for what it cannot have."""

    rows: str
    too_long: str
    cut: str
    never_stop: str


def _demonstrations(stage: str) -> Keys:
    return Keys(f"{stage}/data/examples", f"{stage}/data/too_long", "", f"{stage}/data/never_stop")


def _comparisons(stage: str) -> Keys:
    return Keys(f"{stage}/train/comparisons", f"{stage}/train/too_long", f"{stage}/train/cut", "")


STAGES: dict[str, tuple[str, Keys]] = {
    "projector": ("projector: demonstrations", _demonstrations("projector")),
    "seeing": ("sft: demonstrations", _demonstrations("sft")),
    "begun": ("sft_start: demonstrations", _demonstrations("sft")),
    "feedme": ("feedme: demonstrations, of sampled answers", Keys("feedme/sampled", "feedme/too_long", "feedme/cut", "")),
    "reward": ("reward: comparisons", _comparisons("reward")),
    "gold": ("gold: comparisons", _comparisons("gold")),
    "policy": ("policy: completions", Keys("policy/data/rows", "policy/data/too_long", "policy/data/cut", "policy/data/never_stop")),
}
"""Role among the decision's inputs -> how the card names what it counts, and where; ``seeing`` and ``begun`` are the SFT models as they were
trained."""


def lost_rows(inputs: Mapping[str, Path]) -> list[tuple[str, ...]]:
    """Stage, rows trained on, left out as too long, cut, teaching never to stop; an en dash for what a stage cannot have."""
    rows: list[tuple[str, ...]] = []
    for role, (title, keys) in STAGES.items():
        path = inputs[role] / MANIFEST if role in inputs else None
        metrics: Mapping[str, float] = json.loads(path.read_text("utf-8")).get("metrics", {}) if path and path.is_file() else {}
        if keys.rows in metrics:
            rows.append((title, *(f"{metrics[key]:,.0f}" if key in metrics else "\u2013" for key in keys)))
    return rows
