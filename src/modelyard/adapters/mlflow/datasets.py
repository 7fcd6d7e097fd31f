"""Artifacts that are data as MLflow's dataset inputs: which corpus, feedback and tokens a run was made from,
by digest, and where they lie.

A dataset's digest is the artifact's version, its source the artifact's directory in the store, which
``mlflow.data.get_source`` opens.
"""

from __future__ import annotations

import json

from mlflow.entities import Dataset, DatasetInput, InputTag

from modelyard.store.manifest import Artifact

DATASETS = frozenset({"corpus", "held_out", "feedback", "benchmarks", "tokens", "harm_labels", "instructions", "ai_feedback", "feedme"})
"""Artifacts that are data."""
EVALUATIONS = frozenset({"before", "results", "baseline", "contamination"})
"""Stages that measure on data instead of training on it."""


def data_of(artifact: Artifact, link: str) -> list[DatasetInput]:
    """The data that the artifact was made from; ``link`` is its own path in the store."""
    context = "evaluation" if artifact.name in EVALUATIONS else "training"
    refs = sorted(ref for ref in set(artifact.parents.values()) if ref.partition("/")[0] in DATASETS)
    return [dataset_input(ref, link.removesuffix(artifact.ref), context) for ref in refs]


def dataset_input(ref: str, store: str, context: str) -> DatasetInput:
    """The artifact ``name/version`` in ``store`` (ending with a slash), used for training or evaluation."""
    name, _, version = ref.partition("/")
    scheme, separator, _ = store.partition("://")
    kind = scheme if separator and scheme != "file" else "local"
    dataset = Dataset(name, version, kind, json.dumps({"uri": f"{store}{ref}"}))
    return DatasetInput(dataset, [InputTag("mlflow.data.context", context)])
