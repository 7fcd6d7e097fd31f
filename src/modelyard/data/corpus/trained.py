"""The filters that a corpus trains: abuse, an artifact of its own that later corpora find, and where a config asks for it the quality classifier.

An abuse filter costs seconds to train and depends on its own config and pinned packages only, so every corpus of a store with the same settings
shares one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path

from modelyard.data.filters import abuse, classifier
from modelyard.data.filters.abuse import AbuseConfig, AbuseFilter
from modelyard.data.filters.classifier import ClassifierConfig, TrainedClassifier
from modelyard.data.sources import ratings, tweets
from modelyard.data.sources.declared import SOURCES
from modelyard.data.sources.fetch import fetch
from modelyard.data.sources.stream import Shard, rows
from modelyard.formats.abuse import AbuseModel, load
from modelyard.store.artifacts import Built, Spec, Store
from modelyard.store.code_identity import code_version

_ABUSE = ("abuse_lexicon", "abuse_teacher", "tweets", "human_ratings")
NAME = "abuse_filter"


def abuse_filter(config: AbuseConfig, store: Store, cache: Path) -> Built:
    """The artifact of the trained abuse filter; ``cache`` keeps the packages that it is trained from."""

    def produce(out: Path, _: Path) -> Mapping[str, float]:
        trained = train_abuse(config, cache)
        trained.filter.save(out)
        words = {f"{NAME}/lexicon/words": float(trained.words)}
        return trained.precision.flat(f"{NAME}/precision") | trained.recall.flat(f"{NAME}/recall") | words

    return store.build(Spec(NAME, config, {}, code_version(__name__)), produce)


def train_abuse(config: AbuseConfig, cache: Path) -> abuse.Trained:
    """Train the abuse filter on the packages that it is made of."""
    with ThreadPoolExecutor(max_workers=3) as pool:
        archives = dict(zip(_ABUSE, pool.map(lambda name: fetch(SOURCES[name], cache), _ABUSE), strict=True))
    texts = [document.text for document in tweets.read(SOURCES["tweets"], archives["tweets"])]
    rated = SOURCES["human_ratings"]
    texts += [document.text for name in ratings.SETS for document in ratings.read(rated, archives["human_ratings"], name, "text")]
    words = abuse.lexicon(SOURCES["abuse_lexicon"], archives["abuse_lexicon"])
    return abuse.train(texts, words, abuse.Teacher(SOURCES["abuse_teacher"], archives["abuse_teacher"]), config)


def open_abuse_filter(directory: Path, config: AbuseConfig) -> AbuseFilter:
    """The filter of an artifact, at its operating point."""
    model = load(directory)
    return AbuseFilter(**{field.name: getattr(model, field.name) for field in fields(AbuseModel)}, config=config)


def train_classifier(config: ClassifierConfig, every: list[Shard]) -> TrainedClassifier:
    """Train the quality classifier on the sources that the config calls curated and raw."""

    def sample(names: list[str]) -> list[str]:
        texts: Iterator[str] = (
            row.document.text for shard in every if shard.source.name in names for row in rows(shard, set()) if row.broken is None
        )
        return [text for text, _ in zip(texts, range(config.documents), strict=False)]

    return classifier.train(sample(config.curated), sample(config.raw), config)
