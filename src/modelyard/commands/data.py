"""``modelyard data``: the data stage alone, with Ray for the workers, Great Expectations for the suites, MLflow for the record."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

OVERRIDES = typer.Argument(metavar="KEY=VALUE...", help="Overrides with dotted keys.", show_default=False)


def build(
    config: Annotated[Path, typer.Argument(help="TOML file of the data stage.")], overrides: Annotated[list[str], OVERRIDES] = []
) -> None:
    """Turn raw text into a filtered, deduplicated corpus with counted reasons and a report."""
    from modelyard.adapters import expectations
    from modelyard.adapters.mlflow.server import tracking_uri
    from modelyard.adapters.mlflow.tracker import Tracker
    from modelyard.adapters.ray.data import RayTransform
    from modelyard.config import load_config
    from modelyard.data.corpus.build import StageConfig, run
    from modelyard.data.corpus.document import run_inline
    from modelyard.store.artifacts import Store

    stage = load_config(StageConfig, config, overrides)
    transform = RayTransform(stage.execution.workers) if stage.execution.workers > 1 else run_inline
    built = run(stage, transform, expectations.validate, _progress)
    store = Store(stage.execution.store, stage.execution.scratch)
    directory = store.storage.path(built.artifact.ref)
    report = {"report.html": store.fetch(built.artifact) / "report.html"}
    Tracker(tracking_uri(), stage.name).log(built.artifact, directory, files=report)
    metrics = built.artifact.metrics
    typer.echo(
        f"{metrics['documents/kept/documents']:,.0f} of {metrics['documents/read/documents']:,.0f} documents kept"
        f"{' (found, not built again)' if built.cached else ''}: {directory}"
    )


def _progress(done: int, total: int, metrics: Mapping[str, float] = {}, unit: str = "step") -> None:
    sys.stderr.write(f"{done:,} of {total:,} {unit}s\n" if total else f"{done:,} {unit}s\n")
