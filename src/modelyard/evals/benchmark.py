"""A benchmark is a value: items + prompt + decoding + parser + scorer + metrics, and an id that hashes all of it with the code that scores.

Results with different ids are never compared (``release.compare`` refuses). The idea is inspect_ai's task as a value and marin's frozen
evaluation policy; the per-item records follow GPT-Fathom's "all outputs are kept". Prompts that begin alike keep that beginning in
``prefaces`` (few-shot examples of a subject), so that it is stored, hashed and computed once. Left out: prompts of several turns.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field

from modelyard.config import Config, digest
from modelyard.evals.scorers import PARSERS, SCORERS
from modelyard.formats.records import Record
from modelyard.model.asked import Decoding
from modelyard.store.code_identity import code_version, definition_version

SCORED_ELSEWHERE: dict[str, Callable[[], str]] = {
    "unit_tests": lambda: code_version("modelyard.evals.sandbox.sandbox_runner"),
    "toxicity": lambda: definition_version("modelyard.evals.toxicity", "toxic"),
    "preference": lambda: definition_version("modelyard.evals.scorers", "preference"),
}
"""Scorer -> identity of its code, where a program or a model judges."""


ASKED_BY = {
    "choices": "ask_choices",
    "contexts": "ask_choices",
    "last_word": "ask_last_word",
    "explain": "ask_explain",
    "code": "ask_code",
    "generate": "ask_text",
    "judge": "ask_judge",
    "loss": "ask_loss",
}
"""Method -> function of :mod:`modelyard.evals.asking` whose code is part of the id."""


class Item(Config):
    """One question."""

    id: str
    """Name in the benchmark's file, or ``benchmark/line`` (from 0) where the file gives none."""
    fields: dict[str, str]
    """What the prompt template, the scorer and the tests refer to."""
    target: str
    """The right answer; "" where a program or a model judges."""
    group: str = ""
    """Subject, language or task: key of :attr:`Benchmark.prefaces` and of the means by group."""
    choices: tuple[str, ...] = ()
    """Options, where there are any."""
    right: tuple[int, ...] = ()
    """Which of them are right, from 0."""


NOTHING_DRAWN = Decoding(max_new_tokens=0, temperature=0.0, samples=0, seed=0)
Method = Literal["generate", "choices", "contexts", "last_word", "explain", "code", "judge", "loss"]


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
    method: Method = "generate"
    """How a model is asked (:mod:`modelyard.evals.asking`)."""
    prefaces: dict[str, str] = Field(default_factory=dict)
    """Group -> what stands before the prompts of its items."""
    delimiter: str = " "
    """Between a prompt and what is scored after it."""
    closing: str = ""
    """``explain``: what follows the explanation and asks for the letter. ``judge``: the judge's template over ``question``, ``answer``."""

    @property
    def id(self) -> str:
        """First 16 hex digits of a hash over every field and the code that parses and scores; nothing else can change it."""
        return digest({"benchmark": self, "code": self._scoring_code()})[:16]

    def _scoring_code(self) -> list[str]:
        scorer = SCORERS.get(self.scorer)
        parts = [PARSERS[self.parser].__name__, *([scorer.__name__] if scorer else [])]
        elsewhere = SCORED_ELSEWHERE.get(self.scorer)
        asked = definition_version("modelyard.evals.asking", ASKED_BY[self.method])
        return [definition_version("modelyard.evals.scorers", *parts), *([elsewhere()] if elsewhere else []), asked]

    def prompt_of(self, item: Item) -> str:
        """The text given to the model."""
        return self.prefaces.get(item.group, "") + self.prompt.format(**item.fields)

    def score(self, output: str, item: Item) -> tuple[str, float]:
        """Parsed answer and score of one output."""
        parsed = PARSERS[self.parser](output)
        return parsed, SCORERS[self.scorer](parsed, item.target)


class Recorder(NamedTuple):
    """Fills in what all records of a model share."""

    model: str
    weights: str
    contaminated: Mapping[str, Collection[str]]
    """Benchmark -> items found in a training set."""

    def __call__(
        self,
        benchmark: Benchmark,
        identity: str,
        item: Item,
        output: str,
        parsed: str,
        score: float,
        logprobs: Sequence[float],
        note: str = "",
        *,
        choice: int = -1,
        choice_normalised: int = -1,
        values: Mapping[str, float] = {},
        sample: int = 0,
    ) -> Record:
        """One record."""
        prompt = benchmark.prompt_of(item)
        return Record(
            benchmark=benchmark.name,
            benchmark_id=identity,
            model=self.model,
            weights=self.weights,
            item=item.id,
            group=item.group,
            prompt_sha256=sha256_text(prompt),
            prompt=prompt,
            output=output,
            parsed=parsed,
            score=score,
            logprobs=tuple(round(value, 5) for value in logprobs),
            choice=choice,
            choice_normalised=choice_normalised,
            values=dict(values),
            sample=sample,
            contaminated=item.id in self.contaminated.get(benchmark.name, ()),
            note=note,
        )


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
