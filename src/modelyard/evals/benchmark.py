"""A benchmark is a value: items + prompt + decoding + parser + scorer + metrics, and an id that hashes all of it with the code that scores.

Results with different ids are never compared (``release.compare`` refuses). The idea is inspect_ai's task as a value and marin's frozen
evaluation policy; the per-item records follow GPT-Fathom's "all outputs are kept". Left out: few-shot sets and judges.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from modelyard.code_identity import code_version, definition_version
from modelyard.config import Config, digest
from modelyard.evals.scorers import PARSERS, SCORERS

SCORED_ELSEWHERE: dict[str, Callable[[], str]] = {
    "unit_tests": lambda: code_version("modelyard.evals.sandbox_runner"),
    "toxicity": lambda: definition_version("modelyard.evals.toxicity", "toxic"),
    "preference": lambda: definition_version("modelyard.evals.scorers", "preference"),
}
"""Scorer -> identity of its code, where a program or a model judges."""


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
    """Key of ``scorers.SCORERS``, or what judges instead: ``unit_tests``, ``log_likelihood``, ``scorer_model``, ``preference``, ``toxicity``."""
    metrics: tuple[str, ...]
    """Names of the metrics made of the scores."""
    judge: str = ""
    """Identity of a model or classifier that judges: its fingerprint or package and version. Part of the id."""

    @property
    def id(self) -> str:
        """First 16 hex digits of a hash over every field and the code that parses and scores; nothing else can change it."""
        return digest({"benchmark": self, "code": self._scoring_code()})[:16]

    def _scoring_code(self) -> list[str]:
        scorer = SCORERS.get(self.scorer)
        parts = [PARSERS[self.parser].__name__, *([scorer.__name__] if scorer else [])]
        elsewhere = SCORED_ELSEWHERE.get(self.scorer)
        return [definition_version("modelyard.evals.scorers", *parts), *([elsewhere()] if elsewhere else [])]

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
