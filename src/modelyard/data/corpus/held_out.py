"""Builds the ``held_out`` artifact: what later stages take from a corpus beside its text. Rated texts, demonstrations, PPO prompts, benchmark items.

Prompts are deduplicated (InstructGPT, appendix A.3: on long common prefixes; here on the whole opening), and no opening
of the benchmark begins a text that anything is trained on. Last-word items follow LAMBADA (Paperno et al. 2016):
predict the final word of a passage never trained on. Held-out texts are whole documents of the validation split: what one
model's loss a byte is compared with another's on, whatever their tokenizers. HumanEval's problems (Chen et al. 2021) lie beside them. The corpus is
streamed; in memory are the rated texts and dialogs, and of the rest what is chosen.
"""

from __future__ import annotations

import heapq
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from modelyard.config import Config
from modelyard.data.corpus.splits import Split, fraction
from modelyard.data.sources import human_eval
from modelyard.data.sources.declared import SOURCES
from modelyard.data.sources.dialogs import turns
from modelyard.data.sources.fetch import fetch
from modelyard.formats.expectation import SuiteResult, Validate
from modelyard.formats.feedback import DEMONSTRATIONS, PROMPTS
from modelyard.progress import Report

RATINGS = "ratings.parquet"
SUITES = ("held_out/ratings",)
_SCHEMA = pa.schema([(name, pa.string()) for name in ("id", "domain", "split", "text")] + [("votes", pa.list_(pa.int8()))])
_COLUMNS = ["id", "source", "kind", "group", "split", "text", "votes"]
_LAST = re.compile(r"^(?P<context>.*\s)(?P<word>[A-Za-z]{3,})[.!?'\")]*$", re.DOTALL)
Item = dict[str, Any]


class HeldOutConfig(Config):
    """Sizes of the sets."""

    seed: int
    """Of splits and samples."""
    gold: float = Field(ge=0, lt=1)
    """Share of the rated texts in training whose votes train the gold reward model; those of the others train the reward model."""
    reviews: list[str] = Field(default_factory=list)
    """Sources whose texts are continued: openings, prompts and review demonstrations are theirs."""
    opening_words: int = Field(ge=1)
    """Words of a review that make a prompt."""
    completion_words: int = Field(ge=1)
    """Fewest words that must follow an opening."""
    openings: int = Field(ge=0)
    """Most items of the openings benchmark."""
    last_word: int = Field(ge=0)
    """Most items of the last-word benchmark."""
    last_word_context: int
    """Fewest words of a last-word context."""
    held_out_text: int = Field(ge=0)
    """Most documents of the held-out text benchmark."""
    review_demonstrations: int = Field(ge=0)
    """Most review completions among the demonstrations."""


class Document(NamedTuple):
    """A kept document as the corpus has it."""

    id: str
    source: str
    kind: str
    group: str
    split: Split
    text: str
    votes: list[int] | None


def run(config: HeldOutConfig, inputs: Mapping[str, Path], out: Path, report: Report, validate: Validate, cache: Path) -> dict[str, float]:
    """Derive the sets from ``inputs["corpus"]``.

    Args:
        config: sizes.
        inputs: the corpus.
        out: empty directory; gets ``ratings.parquet``, ``demonstrations.jsonl``, ``prompts.jsonl`` and ``benchmarks/``.
        report: receives progress in sets.
        validate: runs the expectations on the ratings.
        cache: where fetched distributions are kept.

    Raises:
        DataError: HumanEval cannot be fetched.
        ExpectationError: the ratings break an expectation.
    """
    corpus = inputs["corpus"]
    rated = [document for document in documents(corpus) if document.votes is not None]
    ratings = [_rating(document, side) for document in rated if (side := rated_split(document, config)) is not None]
    reviews = _shuffled((document for document in documents(corpus) if document.source in config.reviews), config)
    problems = human_eval.read(SOURCES["human_eval"], fetch(SOURCES["human_eval"], cache))
    made = {
        DEMONSTRATIONS: _demonstrations(corpus, reviews, config),
        PROMPTS: _prompts([one for one in reviews if rated_split(one, config) == "reward"], config),
        "benchmarks/openings.jsonl": _openings(corpus, [one for one in reviews if one.split == "test"], config),
        "benchmarks/last_word.jsonl": _last_word(corpus, config),
        "benchmarks/held_out_text.jsonl": _held_out_text(corpus, config),
        "benchmarks/human_eval.jsonl": problems,
    }
    suites = _validate(ratings, validate)
    for result in suites:
        result.keep_page(out)
        result.require()
    pq.write_table(pa.Table.from_pylist(ratings, schema=_SCHEMA), out / RATINGS, compression="zstd")
    (out / "benchmarks").mkdir()
    for done, (name, rows) in enumerate(made.items(), 1):
        (out / name).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
        report(done, len(made), unit="set")
    (out / "expectations.json").write_text(json.dumps([one.model_dump() for one in suites], indent=1) + "\n", "utf-8")
    sizes = {Path(name).stem: len(rows) for name, rows in made.items()} | {"ratings": len(ratings)}
    return {f"held_out/{name}/items": float(size) for name, size in sizes.items()}


def documents(corpus: Path) -> Iterator[Document]:
    """Every document of a corpus, in order."""
    for file in sorted((corpus / "documents").glob("*.parquet")):
        for batch in pq.ParquetFile(file).iter_batches(batch_size=2000, columns=_COLUMNS):
            yield from (Document(*row) for row in zip(*(batch.column(name).to_pylist() for name in _COLUMNS), strict=True))


def rated_split(document: Document, config: HeldOutConfig) -> str | None:
    """Whose votes a rated text gives: ``test``, ``gold`` or ``reward``; None for one of the validation split. Texts of one work go together."""
    if document.split != "train":
        return "test" if document.split == "test" else None
    return "gold" if fraction(f"{config.seed}:rated:{document.group or document.id}") < config.gold else "reward"


def folded(text: str) -> str:
    """Letters and digits only, in lower case: how two openings are compared."""
    return "".join(c for c in text.lower() if c.isalnum())


def opening(text: str, words: int) -> str:
    """The first ``words`` words, as written, with the blanks before them; all of a shorter text."""
    match = re.match(rf"\s*(?:\S+\s+){{{words - 1}}}\S+", text)
    return match.group(0) if match else text


def _rating(document: Document, split: str) -> Item:
    return {"id": document.id, "domain": document.source, "split": split, "text": document.text, "votes": document.votes}


def _validate(ratings: list[Item], validate: Validate) -> list[SuiteResult]:
    """The suite on the ratings; none where nothing is rated."""
    if not ratings:
        return []
    frame = pd.DataFrame([{key: row[key] for key in ("id", "domain", "split")} for row in ratings])
    votes = [row["votes"] for row in ratings]
    frame["n_votes"] = [len(one) for one in votes]
    frame["min_vote"] = [min(one) for one in votes]
    frame["max_vote"] = [max(one) for one in votes]
    frame["mean_vote"] = [sum(one) / len(one) for one in votes]
    return [validate(SUITES[0], frame)]


def _place(document: Document, config: HeldOutConfig) -> tuple[float, str]:
    """Order of a random sample that depends on the seed and the document alone."""
    return fraction(f"{config.seed}:held_out:{document.id}"), document.id


def _shuffled(found: Iterable[Document], config: HeldOutConfig) -> list[Document]:
    return sorted(found, key=lambda document: _place(document, config))


def _sample(found: Iterable[Document], size: int, config: HeldOutConfig) -> list[Document]:
    return heapq.nsmallest(size, found, key=lambda document: _place(document, config))


def _long_enough(text: str, config: HeldOutConfig) -> bool:
    return len(text.split()) >= config.opening_words + config.completion_words


def _prompts(reviews: list[Document], config: HeldOutConfig) -> list[Item]:
    prompts = {opening(one.text, config.opening_words): one.id for one in reversed(reviews) if _long_enough(one.text, config)}
    return [{"id": name, "prompt": prompt} for prompt, name in sorted(prompts.items(), key=lambda item: item[1])]


def _openings(corpus: Path, reviews: list[Document], config: HeldOutConfig) -> list[Item]:
    """Openings of test reviews, each once, without those that a training document begins with."""
    found: dict[str, Item] = {}
    for one in reviews:
        prompt = opening(one.text, config.opening_words)
        if _long_enough(one.text, config):
            found.setdefault(prompt, {"id": one.id, "prompt": prompt, "text": one.text})
    wanted = {folded(prompt) for prompt in found}
    begun = (folded(opening(one.text, config.opening_words)) for one in documents(corpus) if one.split == "train")
    trained = {start for start in begun if start in wanted}
    return [item for prompt, item in found.items() if folded(prompt) not in trained][: config.openings]


def _last_word(corpus: Path, config: HeldOutConfig) -> list[Item]:
    def usable(document: Document) -> re.Match[str] | None:
        match = _LAST.match(document.text)
        return match if match and len(match["context"].split()) >= config.last_word_context else None

    held = (one for one in documents(corpus) if one.split != "train" and one.kind == "review" and usable(one))
    matches = ((one.id, usable(one)) for one in _sample(held, config.last_word, config))
    return [{"id": name, "context": match["context"].rstrip(), "word": match["word"]} for name, match in matches if match]


def _held_out_text(corpus: Path, config: HeldOutConfig) -> list[Item]:
    held = (one for one in documents(corpus) if one.split == "validation")
    return [{"id": one.id, "text": one.text} for one in _sample(held, config.held_out_text, config)]


def _demonstrations(corpus: Path, reviews: list[Document], config: HeldOutConfig) -> list[Item]:
    """Reviews to continue and dialogs to answer; a training one that is also held out is left out."""
    usable = [one for one in reviews if one.split != "test" and _long_enough(one.text, config)]
    found = []
    for one in usable[: config.review_demonstrations]:
        prompt = opening(one.text, config.opening_words)
        found.append(_demonstration(one, "review", one.id, prompt, one.text[len(prompt) :]))
    for one in documents(corpus):
        if one.kind == "dialog" and one.split != "test":
            said = turns(one.text)
            found += [_demonstration(one, "dialog", f"{one.id}-{n}", said[n], said[n + 1]) for n in range(0, len(said) - 1, 2)]
    held = {_key(item) for item in found if item["split"] == "validation"}
    return [item for item in found if item["split"] == "validation" or _key(item) not in held]


def _key(item: Item) -> str:
    return " ".join(f"{item['prompt']} {item['completion']}".casefold().split())


def _demonstration(document: Document, kind: str, name: str, prompt: str, completion: str) -> Item:
    return {"id": name, "kind": kind, "prompt": prompt, "completion": completion, "split": document.split}
