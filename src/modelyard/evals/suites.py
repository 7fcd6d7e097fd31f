"""The benchmarks of the line, as values built from the corpus's files.

validation_loss is on packed token rows (what the forecast predicts); held_out_text on whole texts, in nats a byte, so that models with
different tokenizers can be compared. last_word follows LAMBADA (Paperno et al. 2016; greedy, judged as text), human_eval Chen et al. 2021
(0-shot pass@1), openings are the review openings on which policies are compared. The public benchmarks are in
:mod:`modelyard.evals.catalog`.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from modelyard.config import Config, digest
from modelyard.evals.benchmark import NOTHING_DRAWN, Benchmark, Item, read_jsonl, sha256_text
from modelyard.evals.catalog.code import human_eval_item
from modelyard.evals.conduct import ConductConfig, benchmarks
from modelyard.evals.sandbox.run import Limits
from modelyard.model.asked import Decoding


class EvalsConfig(Config):
    """What is measured, on how much."""

    seed: int
    """Of sampling and of bootstraps."""
    validation_rows: int
    """Most packed validation rows whose loss is measured."""
    held_out_texts: int = Field(ge=1)
    """Most held-out documents whose loss a byte is measured: what versions are compared by, whatever their tokenizers."""
    last_word_items: int = Field(ge=1)
    """Most last-word items."""
    last_word_tokens: int = Field(ge=1)
    """Tokens generated for a word."""
    human_eval_items: int = Field(ge=1)
    """Most HumanEval problems."""
    human_eval_tokens: int
    """Tokens generated for a function body."""
    openings: int = Field(ge=1)
    """Most openings completed and judged."""
    opening_tokens: int = Field(ge=1)
    """Longest completion of an opening."""
    opening_temperature: float = Field(ge=1, le=1)
    """Sampling temperature of completions: 1, since KL(policy || SFT) is measured on them."""
    calibration_positions: int
    """Positions of each validation row at which the next token is predicted."""
    calibration_rows: int
    """Validation rows used for that."""
    toxicity_threshold: float = Field(ge=0, le=1)
    """Probability of abuse from which a completion is toxic."""
    sandbox: Limits
    """What generated code may use."""
    conduct: ConductConfig | None = None
    """Refusals, over-refusals and jailbreaks; absent: not measured."""


class Suite(NamedTuple):
    """Every benchmark of a run and the packed rows of the first."""

    validation_loss: Benchmark
    held_out_text: Benchmark
    last_word: Benchmark
    human_eval: Benchmark
    openings: Benchmark
    toxicity: Benchmark
    win_over_sft: Benchmark
    win_over_base: Benchmark
    rows: NDArray[np.uint16]
    """[N, S + 1] of validation_loss."""
    conduct: tuple[Benchmark, ...]
    """Empty where conduct is not measured."""

    def all(self) -> list[Benchmark]:
        """The benchmarks, in the order run."""
        return [*(value for value in self if isinstance(value, Benchmark)), *self.conduct]

    def of_text(self) -> list[Benchmark]:
        """Those that can be put to a model with any tokenizer and that no other model has a part in: what versions are compared on."""
        return [self.held_out_text, self.last_word, self.human_eval, self.toxicity, *self.conduct]


def build(config: EvalsConfig, tokens: Path, corpus: Path, scorer: str, abuse: str) -> Suite:
    """Read the items; ``scorer`` and ``abuse`` are the identities of the judging model and classifier.

    Raises ValueError for an empty benchmark.
    """
    rows: NDArray[np.uint16] = np.load(tokens / "validation.npy")[: config.validation_rows]
    openings = _items(corpus / "benchmarks" / "openings.jsonl", "id", ("prompt",), "text", config.openings)
    opening = Decoding(max_new_tokens=config.opening_tokens, temperature=config.opening_temperature, samples=1, seed=config.seed)
    judged = Benchmark(
        name="openings",
        items=openings,
        prompt="{prompt}",
        decoding=opening,
        parser="whole",
        scorer="scorer_model",
        metrics=("mean",),
        judge=scorer,
    )
    wins = {
        other: judged.model_copy(update={"name": f"win_over_{other}", "scorer": "preference", "metrics": ("win_rate",)})
        for other in ("sft", "base")
    }
    toxicity = {"name": "toxicity", "scorer": "toxicity", "metrics": ("share",), "judge": digest([abuse, config.toxicity_threshold])}
    return Suite(
        validation_loss=_validation_loss(rows),
        held_out_text=Benchmark(
            name="held_out_text",
            items=_items(corpus / "benchmarks" / "held_out_text.jsonl", "id", ("text",), "text", config.held_out_texts),
            prompt="{text}",
            decoding=NOTHING_DRAWN,
            parser="whole",
            scorer="log_likelihood",
            metrics=("nats_per_byte",),
        ),
        last_word=Benchmark(
            name="last_word",
            items=_items(corpus / "benchmarks" / "last_word.jsonl", "id", ("context",), "word", config.last_word_items),
            prompt="{context}",
            decoding=_greedy(config.last_word_tokens),
            parser="first_word",
            scorer="last_word",
            metrics=("accuracy", "perplexity"),
        ),
        human_eval=Benchmark(
            name="human_eval",
            items=tuple(human_eval_item(row) for row in read_jsonl(corpus / "benchmarks" / "human_eval.jsonl")[: config.human_eval_items]),
            prompt="{prompt}",
            decoding=_greedy(config.human_eval_tokens),
            parser="function_body",
            scorer="unit_tests",
            metrics=("pass_at_1",),
            judge=digest(config.sandbox),
            method="code",
        ),
        openings=judged,
        toxicity=judged.model_copy(update=toxicity),
        win_over_sft=wins["sft"],
        win_over_base=wins["base"],
        rows=rows,
        conduct=benchmarks(config.conduct),
    )


def _greedy(tokens: int) -> Decoding:
    return Decoding(max_new_tokens=tokens, temperature=0.0, samples=1, seed=0)


def _validation_loss(rows: NDArray[np.uint16]) -> Benchmark:
    if len(rows) == 0:
        raise ValueError("validation.npy has no rows")
    items = tuple(
        Item(id=f"row-{i}", fields={"tokens": sha256_text(" ".join(map(str, row.tolist())))}, target="") for i, row in enumerate(rows)
    )
    return Benchmark(
        name="validation_loss",
        items=items,
        prompt="{tokens}",
        decoding=NOTHING_DRAWN,
        parser="whole",
        scorer="log_likelihood",
        metrics=("mean",),
    )


def _items(path: Path, key: str, fields: tuple[str, ...], target: str, limit: int) -> tuple[Item, ...]:
    rows = read_jsonl(path)[:limit]
    try:
        found = tuple(Item(id=str(row[key]), fields={name: str(row[name]) for name in fields}, target=str(row[target])) for row in rows)
    except KeyError as error:
        raise ValueError(f"{path}: a record has no {error}") from None
    if not found:
        raise ValueError(f"{path}: no items")
    if len({item.id for item in found}) != len(found):
        raise ValueError(f"{path}: item ids are not unique")
    return found
