"""``modelyard data``: the data stages alone, with Ray for the workers, Great Expectations for the suites, MLflow for the record.
What a corpus of another size would take is :mod:`modelyard.commands.data_plan`'s.

What it builds is what a pipeline builds from the same tables, down to the fingerprint: a pipeline run finds it, and the other way round.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelyard.commands.command import say

if TYPE_CHECKING:
    from modelyard.data.build import DataConfig
    from modelyard.store.artifacts import Built, Store

OVERRIDES = typer.Argument(metavar="KEY=VALUE...", help="Overrides with dotted keys.", show_default=False)


def build(
    config: Annotated[
        Path, typer.Argument(help="TOML file with the tables corpus, execution and perhaps tokens; a pipeline's file will do.")
    ],
    overrides: Annotated[list[str], OVERRIDES] = [],
) -> None:
    """Turn raw text into a filtered, deduplicated corpus with counted reasons and a report, and into token files."""
    from modelyard.config import load_config
    from modelyard.data import build as data
    from modelyard.data.corpus import drift
    from modelyard.data.corpus.document import run_inline
    from modelyard.data.corpus.partitions import in_process

    stage = load_config(data.DataConfig, config, overrides)
    from modelyard.adapters import expectations  # seconds of imports, for which a config that cannot be used need not wait
    from modelyard.adapters.ray.data import RayTransform
    from modelyard.adapters.ray.partitions import ray_partitions

    store = data.store_of(stage)
    workers = stage.execution.threads
    transform = RayTransform(workers) if workers > 1 else run_inline
    partitions = ray_partitions(workers) if workers > 1 else in_process
    corpus = data.build_corpus(stage, store, transform, partitions, expectations.validate, _progress)
    _record(stage, store, corpus)
    drift.check(stage.name, corpus.artifact, store, expectations.validate)
    metrics = corpus.artifact.metrics
    _say(store, corpus, f"{metrics['corpus/documents/kept']:,.0f} of {metrics['corpus/documents/read']:,.0f} documents kept")
    if (tokens := data.build_tokens(stage, store, corpus.artifact, _progress)) is not None:
        _record(stage, store, tokens)
        _say(store, tokens, f"{tokens.artifact.metrics['tokens/train/tokens']:,.0f} training tokens")


def _record(stage: DataConfig, store: Store, built: Built) -> None:
    """The artifact's MLflow run, with its report where it has one."""
    from modelyard.adapters.mlflow.server import tracking_uri
    from modelyard.adapters.mlflow.tracker import Tracker

    report = store.fetch(built.artifact) / "report.html"
    files = {"report.html": report} if report.is_file() else {}
    Tracker(tracking_uri(), stage.name).log(built.artifact, store.storage.path(built.artifact.ref), files=files)


def _say(store: Store, built: Built, what: str) -> None:
    say(f"{what}{' (found, not built again)' if built.cached else ''}: {store.storage.path(built.artifact.ref)}")


def _progress(done: int, total: int, metrics: Mapping[str, float] = {}, unit: str = "step") -> None:
    rows = "".join(f", {value:,.0f} rows of the next one" for name, value in metrics.items() if name.endswith("/rows"))
    sys.stderr.write(f"{done:,} of {total:,} {unit}s{rows}\n" if total else f"{done:,} {unit}s\n")
