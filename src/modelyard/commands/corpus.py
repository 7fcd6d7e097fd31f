"""The data stage as a command: ``python -m modelyard.commands.corpus CONFIG.toml [KEY=VALUE ...]``.

With Ray for the workers, Great Expectations for the suites, MLflow for the record.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from modelyard.adapters import expectations
from modelyard.adapters.mlflow.server import tracking_uri
from modelyard.adapters.mlflow.tracker import Tracker
from modelyard.adapters.ray.data import RayTransform
from modelyard.config import load_config
from modelyard.data.document import run_inline
from modelyard.data.stage import StageConfig, run
from modelyard.store.artifacts import Store


def main(arguments: list[str]) -> int:
    """Run the stage; 0 when the corpus is there, 2 with one line when it cannot be built."""
    if not arguments or arguments[0].startswith("-"):
        sys.stderr.write("usage: python -m modelyard.commands.corpus CONFIG.toml [KEY=VALUE ...]\n")
        return 2
    try:
        config = load_config(StageConfig, arguments[0], arguments[1:])
        built = run(
            config, RayTransform(config.execution.workers) if config.execution.workers > 1 else run_inline, expectations.validate, _progress
        )
    except (ValueError, OSError) as error:
        sys.stderr.write(f"data: {' '.join(str(error).split())}\n")
        return 2
    store = Store(config.execution.store, config.execution.scratch)
    directory = store.storage.path(built.artifact.ref)
    Tracker(tracking_uri(), config.name).log(built.artifact, directory, files={"report.html": store.fetch(built.artifact) / "report.html"})
    metrics = built.artifact.metrics
    sys.stdout.write(
        f"{metrics['documents/kept/documents']:,.0f} of {metrics['documents/read/documents']:,.0f} documents kept"
        f"{' (found, not built again)' if built.cached else ''}: {directory}\n"
    )
    return 0


def _progress(done: int, total: int, metrics: Mapping[str, float] = {}, unit: str = "step") -> None:
    sys.stderr.write(f"{done:,} of {total:,} {unit}s\n" if total else f"{done:,} {unit}s\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
