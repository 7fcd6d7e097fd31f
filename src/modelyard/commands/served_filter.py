"""What holds the prompts and answers of a model that ``modelyard serve`` opens."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from modelyard.commands.command import say

if TYPE_CHECKING:
    from modelyard.serving.content_filter import ContentFilter

ABUSE_THRESHOLD = 0.5
"""Of an abuse model, which has none of its own."""


def filter_of(model: str, classifier: str, threshold: float | None, threads: int) -> ContentFilter | None:
    """What holds prompts and answers; None where nothing does, which is said. Raises ValueError where a classifier is named that is not there."""
    if classifier == "release":
        return filter_of_release(model, threshold, threads)
    if classifier == "none":
        say("content filter: none")
        return None
    return abuse_filter(Path(classifier), threshold)


def filter_of_release(model: str, threshold: float | None, threads: int) -> ContentFilter | None:
    """The content classifier of a registered version, else the abuse model of its corpus; None where the store has neither."""
    from modelyard.adapters.mlflow.model_source import registered_tags
    from modelyard.adapters.mlflow.registry import CLASSIFIER as TAG
    from modelyard.execution import ExecutionConfig
    from modelyard.posttrain.content_classifier.open import decoder_of, open_classifier
    from modelyard.serving.content_filter import ContentFilter
    from modelyard.store.artifacts import Store

    tags = registered_tags(model) if model.startswith("models:/") else {}
    store = Store(tags["store"], ExecutionConfig().scratch) if tags.get("store") else None
    if store and (ref := tags.get(TAG)):
        made = store.get(ref)  # a release that was judged with a classifier is not served without it
        opened = open_classifier(store.fetch(made), store.fetch(decoder_of(store, made)), ExecutionConfig(threads=threads))
        say(f"content filter: {ref}" + (f" from {threshold:g}" if threshold else ""))
        return ContentFilter(opened, threshold or ABUSE_THRESHOLD, {} if threshold else opened.thresholds)
    if store and (corpus := tags.get("corpus")) and store.find(*corpus.partition("/")[::2]):
        return abuse_filter(store.fetch(store.get(corpus)), threshold)
    say("content filter: none")
    return None


def abuse_filter(directory: Path, threshold: float | None) -> ContentFilter:
    """The abuse model in a directory. Raises ValueError where there is none."""
    from modelyard.formats import abuse
    from modelyard.serving.content_filter import ContentFilter

    least = threshold or ABUSE_THRESHOLD
    say(f"content filter: {directory / abuse.FILE} from {least:g}")
    return ContentFilter(abuse.load(directory), least)
