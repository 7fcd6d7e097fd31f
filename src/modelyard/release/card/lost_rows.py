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

    rows: str = ""
    too_long: str = ""
    cut: str = ""
    never_stop: str = ""


def _demonstrations(stage: str) -> Keys:
    return Keys(f"{stage}/data/examples", f"{stage}/data/too_long", "", f"{stage}/data/never_stop")


def _comparisons(stage: str) -> Keys:
    return Keys(f"{stage}/train/comparisons", f"{stage}/train/too_long", f"{stage}/train/cut")


def _tests(stage: str) -> Keys:
    return Keys("", f"{stage}/test/too_long", f"{stage}/test/cut")


HELD_OUT, CHOICE = Keys("", "sft/validation/too_long"), Keys("", "selection/too_long")
STAGES: tuple[tuple[str, str, Keys], ...] = (
    ("projector", "projector: demonstrations", _demonstrations("projector")),
    ("seeing", "sft: demonstrations", _demonstrations("sft")),
    ("seeing", "sft: held-out demonstrations", HELD_OUT),
    ("ai_feedback", "ai_feedback: ranked answers", Keys(cut="ai_feedback/rankings/cut")),
    ("ai_feedback", "ai_feedback: answers that a judge prefers among", Keys(cut="ai_feedback/rlaif/cut")),
    ("ai_feedback", "ai_feedback: faithful rewrites", Keys(cut="ai_feedback/closed_domain/rewrite_cut")),
    ("reward", "reward: comparisons", _comparisons("reward")),
    ("reward", "reward: test comparisons", _tests("reward")),
    ("gold", "gold: comparisons", _comparisons("gold")),
    ("gold", "gold: test comparisons", _tests("gold")),
    ("sft", "selection: prompts", CHOICE),
    ("feedme", "feedme: demonstrations, of sampled answers", Keys("feedme/sampled", "feedme/too_long", "feedme/cut")),
    ("begun", "sft_start: demonstrations", _demonstrations("sft")),
    ("begun", "sft_start: held-out demonstrations", HELD_OUT),
    ("sft_start", "start_selection: prompts", CHOICE),
    ("policy", "policy: completions", Keys("policy/data/rows", "policy/data/too_long", "policy/data/cut", "policy/data/never_stop")),
)
"""Role among the decision's inputs, how the card names what is counted, and where the counts are; ``seeing`` and ``begun`` are the SFT models as
they were trained, ``sft`` and ``sft_start`` their chosen epochs where one was chosen."""


def lost_rows(inputs: Mapping[str, Path]) -> list[tuple[str, ...]]:
    """Stage, rows trained on, left out as too long, cut, teaching never to stop; an en dash for what a stage cannot have."""
    rows: list[tuple[str, ...]] = []
    for role, title, keys in STAGES:
        path = inputs[role] / MANIFEST if role in inputs else None
        metrics: Mapping[str, float] = json.loads(path.read_text("utf-8")).get("metrics", {}) if path and path.is_file() else {}
        if any(key in metrics for key in keys):
            rows.append((title, *(f"{metrics[key]:,.0f}" if key in metrics else "\u2013" for key in keys)))
    return rows
