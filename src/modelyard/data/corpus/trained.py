"""The filters that a corpus trains: abuse, and where a config asks for it the quality classifier.

The abuse filter is an artifact of its own. It costs seconds and depends on its own config, its labels and pinned packages only, so every
corpus of a store with the same settings shares one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from itertools import islice, zip_longest
from pathlib import Path

from modelyard.data.filters import abuse, abuse_teacher, classifier
from modelyard.data.filters.abuse import AbuseConfig, AbuseFilter
from modelyard.data.filters.classifier import ClassifierConfig, TrainedClassifier
from modelyard.data.sources.declared import SOURCES
from modelyard.data.sources.fetch import fetch
from modelyard.data.sources.stream import Shard, rows
from modelyard.formats.abuse import AbuseModel, load
from modelyard.store.artifacts import Built, Store
from modelyard.store.code_identity import code_version
from modelyard.store.manifest import Spec

_ABUSE = ("abuse_lexicon", "abuse_teacher")
NAME = "abuse_filter"


def abuse_filter(config: AbuseConfig, store: Store, cache: Path, roots: Sequence[str]) -> Built:
    """The artifact of the abuse filter; ``cache`` keeps the packages it is made of, ``roots`` is where its labels are looked for."""

    def produce(out: Path, _: Path) -> Mapping[str, float]:
        trained = train_abuse(config, cache, roots)
        trained.save(out)
        return trained.metrics(NAME)

    return store.build(Spec(NAME, config.anywhere(), {}, code_version(__name__)), produce)


def train_abuse(config: AbuseConfig, cache: Path, roots: Sequence[str] = ("",)) -> abuse.Trained:
    """The abuse filter, made of packages and of the labels that the config names. Raises DataError where one cannot be used."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        archives = dict(zip(_ABUSE, pool.map(lambda name: fetch(SOURCES[name], cache), _ABUSE), strict=True))
    teacher = abuse_teacher.read(SOURCES["abuse_teacher"], archives["abuse_teacher"])
    return abuse.train(abuse.lexicon(SOURCES["abuse_lexicon"], archives["abuse_lexicon"]), teacher, config, roots)


def open_abuse_filter(directory: Path, config: AbuseConfig) -> AbuseFilter:
    """The filter of an artifact, at its operating point."""
    model = load(directory)
    return AbuseFilter(**{field.name: getattr(model, field.name) for field in fields(AbuseModel)}, config=config)


def train_classifier(config: ClassifierConfig, every: list[Shard]) -> TrainedClassifier:
    """Train the quality classifier on the sources that the config calls curated and raw."""
    curated, raw = (_sample(names, every, config.documents) for names in (config.curated, config.raw))
    return classifier.train(curated, raw, config)


def _sample(names: Iterable[str], every: list[Shard], size: int) -> list[str]:
    """The first texts of each named source in turn, so that each gives as many while it has some."""
    each = [_texts([shard for shard in every if shard.source.name == name]) for name in dict.fromkeys(names)]
    return list(islice((text for turn in zip_longest(*each) for text in turn if text is not None), size))


def _texts(shards: list[Shard]) -> Iterator[str]:
    """The texts of a source, the same however its files are grouped."""
    ids = set[int]()
    return (row.document.text for shard in shards for row in rows(shard, ids) if row.broken is None)
