"""A benchmark is a value: items + prompt + decoding + parser + scorer + metrics, and an id that hashes all of it with the code that scores.

Results with different ids are never compared (``release.compare`` refuses). The idea is inspect_ai's task as a value and marin's frozen
evaluation policy; the per-item records follow GPT-Fathom's "all outputs are kept". Left out: few-shot sets and judges.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from modelyard.artifacts import code_version
from modelyard.config import Config, digest
from modelyard.evals.scorers import PARSERS, SCORERS


class Item(Config):
    """One question."""

    id: str
    """Name in the benchmark's file."""
    fields: dict[str, str]
    """What the prompt template, the scorer and the tests refer to."""
    target: str
    """The right answer; "" where a program or a model judges."""


class Decoding(Config):
    """How outputs are drawn."""

    max_new_tokens: int
    """Longest output; 0: nothing is generated, the target's log-likelihood is the score."""
    temperature: float
    """0: greedy."""
    samples: int
    """Outputs an item."""
    seed: int
    """Of the sampling."""


class Benchmark(Config):
    """Everything that a score depends on beside the model."""

    name: str
    """last_word, human_eval, openings..."""
    items: tuple[Item, ...]
    """In the order of the records."""
    prompt: str
    """``str.format`` template over an item's fields."""
    decoding: Decoding
    """How outputs are drawn."""
    parser: str
    """Key of ``scorers.PARSERS``."""
    scorer: str
    """Key of ``scorers.SCORERS``, or what judges instead: ``unit_tests``, ``log_likelihood``, ``scorer_model``, ``toxicity``."""
    metrics: tuple[str, ...]
    """Names of the metrics made of the scores."""
    judge: str = ""
    """Identity of a model or classifier that judges: its fingerprint or package and version. Part of the id."""

    @property
    def id(self) -> str:
        """First 16 hex digits of a hash over every field and the scoring code."""
        return digest(
            {"benchmark": self, "code": [code_version(f"modelyard.evals.{part}") for part in ("scorers", "metrics", "sandbox_runner")]}
        )[:16]

    def prompt_of(self, item: Item) -> str:
        """The text given to the model."""
        return self.prompt.format(**item.fields)

    def score(self, output: str, item: Item) -> tuple[str, float]:
        """Parsed answer and score of one output."""
        parsed = PARSERS[self.parser](output)
        return parsed, SCORERS[self.scorer](parsed, item.target)


class Record(Config):
    """What happened with one item: one line of ``records/{model}/{benchmark}.jsonl``."""

    benchmark: str
    """Name."""
    benchmark_id: str
    """:attr:`Benchmark.id`."""
    model: str
    """base, sft or policy."""
    weights: str
    """Fingerprint of the weights that answered."""
    item: str
    """Item id."""
    prompt_sha256: str
    """Of the prompt text."""
    prompt: str
    """The prompt text."""
    output: str
    """What the model said; "" where nothing was generated."""
    parsed: str
    """What the parser made of it."""
    score: float
    """Higher is better, in every benchmark."""
    logprobs: tuple[float, ...]
    """log p of each scored or generated token, nats."""
    contaminated: bool
    """Whether the contamination check found the item in a training set."""
    note: str = ""
    """Reason of a failure, isolation of the sandbox, a prompt that was cut."""


def sha256_text(text: str) -> str:
    """sha256 (hex) of a text's UTF-8."""
    return sha256(text.encode()).hexdigest()


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Every line of a JSONL file as a dict. Raises ValueError naming the file and line that is none."""
    rows = []
    for number, line in enumerate(path.read_text("utf-8").split("\n"), 1):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}:{number}: not JSON: {error}") from None
    return rows


def write_records(path: Path, records: Iterable[Record]) -> None:
    """One line of JSON an item."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for entry in records:
            file.write(entry.model_dump_json() + "\n")


def split_scores(records: Sequence[Record]) -> dict[str, list[float]]:
    """Scores of all, clean and contaminated items (GPT-4 report, appendix C: the score is given again without the contaminated)."""
    return {
        "": [r.score for r in records],
        "_clean": [r.score for r in records if not r.contaminated],
        "_contaminated": [r.score for r in records if r.contaminated],
    }
