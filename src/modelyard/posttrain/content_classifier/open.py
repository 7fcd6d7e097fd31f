"""The content classifier of a release, opened to serve: its heads, and the decoder that it was trained on."""

from __future__ import annotations

from pathlib import Path

from modelyard.execution import ExecutionConfig
from modelyard.model import model_directory
from modelyard.model.encoder import Encoder
from modelyard.posttrain.content_classifier import classifier
from modelyard.posttrain.content_classifier.classifier import ContentClassifier
from modelyard.posttrain.content_classifier.features import Reader, read_settings
from modelyard.store.artifacts import Store
from modelyard.store.file_hash import sha256_tree
from modelyard.store.manifest import Artifact


def decoder_of(store: Store, made: Artifact) -> Artifact:
    """The model that a ``content_classifier`` artifact reads texts by. Raises ArtifactError where the store does not have it any more."""
    return store.get(store.get(made.parents["harm_features"]).parents["decoder"])


def open_classifier(directory: Path, decoder: Path, execution: ExecutionConfig) -> ContentClassifier:
    """The classifier of an artifact. Raises ValueError where a file is damaged, or ``decoder`` is not the model that it was trained on."""
    settings = read_settings(directory)
    weights = sha256_tree(decoder / "checkpoint")
    if weights != settings.decoder:
        raise ValueError(f"{decoder}: not the decoder of {directory}: its weights are {weights[:16]}, not {settings.decoder[:16]}")
    reader = Reader(model_directory.load(decoder, execution), Encoder(decoder), settings)
    return ContentClassifier(classifier.load(directory), reader, weights)
