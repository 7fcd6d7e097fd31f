"""The gate behind a corpus: how far it is from the version before it of the same name.

The store remembers under ``corpora/NAME.json`` which version was taken last. A new one that drifts further than its config allows is refused by the
name of the expectation and is not remembered; the artifact stays, so that a second look costs nothing.
"""

from __future__ import annotations

import json
from typing import Any

from modelyard.data.corpus import expectations
from modelyard.data.corpus.expectations import ExpectedConfig
from modelyard.formats import json_file
from modelyard.formats.expectation import SuiteResult, Validate
from modelyard.store.artifacts import CORPORA, Store
from modelyard.store.manifest import Artifact

STATISTICS = "statistics.json"


def check(name: str, corpus: Artifact, store: Store, validate: Validate) -> SuiteResult | None:
    """Compare ``corpus`` with the last version that was taken under ``name``, and take it; None where there is nothing to compare.

    Raises:
        ExpectationError: it differs by more than its config allows.
        ArtifactError: the statistics of one of them are not the recorded ones.
    """
    limits = ExpectedConfig.model_validate(corpus.config["expectations"])
    key = f"{CORPORA}/{name}.json"
    try:
        last = str(json_file.parse(store.storage.read(key), store.storage.path(key))["ref"])
    except FileNotFoundError:
        last = ""
    result = None
    before = store.find(*last.split("/", 1)) if last and last != corpus.ref else None
    if before is not None:
        result = expectations.drift(_statistics(store, corpus), _statistics(store, before), limits, validate).require()
    if last != corpus.ref:
        store.storage.write(key, (json.dumps({"ref": corpus.ref}) + "\n").encode())
    return result


def _statistics(store: Store, corpus: Artifact) -> dict[str, Any]:
    found: dict[str, Any] = json_file.parse(store.read(corpus, STATISTICS), store.storage.path(f"{corpus.ref}/{STATISTICS}"))
    return found
