"""What ``modelyard harms`` does: the labels of a config, a classifier of them, and files for people to answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import ConfigDict, ValidationError

from modelyard.commands.command import say
from modelyard.commands.outputs import write
from modelyard.complaint import first_error
from modelyard.config import Config, load_config
from modelyard.data.filters.abuse_labels import groups
from modelyard.data.harms import gather
from modelyard.data.harms.gather import HarmLabelsConfig
from modelyard.desk.exchange import harm_reviews as exchange
from modelyard.execution import ExecutionConfig
from modelyard.formats import harm_reviews
from modelyard.formats.feedback import json_lines
from modelyard.formats.harm_reviews import Review
from modelyard.posttrain.content_classifier import next_labels
from modelyard.posttrain.content_classifier.cross_scores import Labelled, cross_scored, judged, suspects
from modelyard.posttrain.content_classifier.features import Features, FeaturesConfig, Reader
from modelyard.posttrain.content_classifier.next_labels import Shares
from modelyard.posttrain.content_classifier.train import ContentClassifierConfig
from modelyard.store.file_hash import sha256_file


class Tables(Config):
    """What is read of a config; the other tables of a pipeline are passed over."""

    model_config = ConfigDict(extra="ignore")

    harm_labels: HarmLabelsConfig
    """Which labels."""
    harm_features: FeaturesConfig = FeaturesConfig()
    """What is read of the decoder."""
    content_classifier: ContentClassifierConfig = ContentClassifierConfig(seed=0)
    """How the classifier is trained."""
    execution: ExecutionConfig = ExecutionConfig()
    """Where relative paths start."""


class Opened(NamedTuple):
    """Labels to learn from, and what judges by them."""

    tables: Tables
    known: Labelled
    reader: Reader | None
    """None: words alone judge."""

    def read(self, texts: Sequence[str]) -> Features | None:
        """What the decoder makes of texts; None without one."""
        return self.reader.read(texts, self.tables.harm_features.max_windows) if self.reader else None


def opened(config: Path, decoder: str | None, threads: int) -> Opened:
    """The labels of a config that the classifier learns from. Raises ValueError naming the file, the line and the key."""
    tables = load_config(Tables, config)
    found = [one for one in gather.records(tables.harm_labels, tables.execution.roots)[0] if one.split == "train"]
    reader = None
    if decoder:
        from modelyard.adapters.mlflow.model_source import local_directory
        from modelyard.commands.evaluate import CACHE, MICRO_BATCH
        from modelyard.model.subject import Subject

        subject = Subject.open(decoder, local_directory(decoder, CACHE / "models"), ExecutionConfig(threads=threads), MICRO_BATCH)
        reader = Reader(subject.engine, subject.encoder, tables.harm_features)
    bare = Opened(tables, Labelled.of(found), reader)
    return bare._replace(known=Labelled.of(found, bare.read([one.text for one in found])))


def write_suspects(opened: Opened, out: Path, most: int, desk: Path | None) -> None:
    """The labels that are doubted, for people to answer in the file, or at the desk. Raises ValueError where ``out`` has answers already."""
    require_unanswered(out)
    found = suspects(opened.known, cross_scored(opened.known, opened.tables.content_classifier), most)
    hand_out(found, int((opened.known.labels[:, 1:] >= 0).sum()), out, desk)


def require_unanswered(out: Path) -> None:
    """Raises ValueError where somebody has answered in the file already."""
    if out.is_file() and any(review.answer is not None for _, review in harm_reviews.read(out)):
        raise ValueError(f"{out}: has answers already; name another file")


def hand_out(found: Sequence[Review], known: int, out: Path, desk: Path | None) -> None:
    """Doubtful labels of ``known`` to be answered in the file, or at the desk."""
    write(out, harm_reviews.lines(found))
    say(f"{out}: {len(found)} doubtful labels of {known:,}, {sum(one.confident for one in found)} of them by confident learning too")
    if desk:
        name = exchange.write_batch(found, desk)
        say(f"modelyard label {desk / 'batch.toml'}; then modelyard label --out OUT --only {name}, and --answers OUT/labels.jsonl here")
    else:
        say('fill in "answer" (0 or 1) and name the file under [[harm_labels.reviews]]')


def fill_in(suspects: Path, labels: Path) -> None:
    """The desk's votes as answers of the file, which keeps those that it has."""
    before = [review for _, review in harm_reviews.read(suspects)]
    after = exchange.voted(before, labels)
    aside = suspects.with_name(f".{suspects.name}.new")
    write(aside, harm_reviews.lines(after))
    aside.replace(suspects)
    known = [one for one in after if one.answer is not None]
    changed = sum(one.answer != one.label for one in known)
    say(f"{suspects}: {len(known)} of {len(after)} labels answered, {changed} of them otherwise than they stand")
    say(f"name it under [[harm_labels.reviews]]: sha256 {sha256_file(suspects)}")


def write_next(opened: Opened, pool: Path, out: Path, category: str, number: int, random: float, above: float, seed: int) -> None:
    """The texts of a pool to label next, with a null for every category. Raises ValueError."""
    known, config = opened.known, opened.tables.harm_labels
    if category not in known.names:
        raise ValueError(f"--category {category}: expected one of {', '.join(known.names)}")
    try:
        shares = Shares(random=random, above=above)
    except ValidationError as error:
        raise ValueError(f"--random, --above: {first_error(error).removeprefix('config: ')}") from None
    texts = unseen([one.text for one in known.texts], [gather.text_of(line) for line in json_lines(pool)])
    if not texts:
        raise ValueError(f"{pool}: no text that was not labelled already")
    everything = np.arange(len(known.texts))
    scored = judged(known, everything, texts, opened.read(texts), opened.tables.content_classifier)
    column = known.names.index(category)
    p = scored.probabilities[:, column]
    chosen = next_labels.choose(p, float(scored.thresholds[column]), number, shares, seed)
    keys = tuple(config.categories.values())
    rows = [
        {"prompt": texts[one.place], **dict.fromkeys(keys), "chosen": one.reason, "score": round(float(p[one.place]), 4)} for one in chosen
    ]
    write(out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    counts = ", ".join(f"{sum(one.reason == why for one in chosen)} {said}" for why, said in SAID.items())
    say(f"{out}: {len(chosen)} of {len(texts):,} texts that are no near duplicates of others: {counts}")
    say(f"fill in {', '.join(keys)} (0 or 1) and name the file under [[harm_labels.files]]")


SAID = {"random": "at random", "above": "that would be blocked", "uncertain": "uncertain"}


def unseen(labelled: Sequence[str], pool: Sequence[str]) -> list[str]:
    """The texts of the pool that are no near duplicates of a labelled one or of one before them."""
    first = groups([*labelled, *pool])[len(labelled) :]
    return [text for place, text in enumerate(pool, len(labelled)) if first[place - len(labelled)] == place]
