"""What the tasks that train share: one launch on a Ray Train worker group."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from modelyard.adapters.ray import train as ray_train
from modelyard.config import Config
from modelyard.execution import ExecutionConfig
from modelyard.progress import Report
from modelyard.store.artifacts import Artifact, Built, Spec
from modelyard.store.code_identity import code_version
from modelyard.store.storage import Storage
from tasks.build import Place, build

TIMEOUT_SECONDS = 7 * 24 * 3600


def train(
    name: str,
    run: ray_train.StageRun,
    config: Config,
    parents: Mapping[str, Artifact],
    place: Place,
    execution: ExecutionConfig | None = None,
) -> Built:
    """The artifact ``name`` that ``run`` makes on every rank of ``execution`` (the place's own by default)."""

    def produce(inputs: Mapping[str, Path], out: Path, checkpoints: Path, report: Report) -> Mapping[str, float]:
        return ray_train.launch(run, config, inputs, out, checkpoints, execution or place.execution, report)

    spec = Spec(name, config, parents, code_version(run.__module__))
    built = build(spec, produce, place)
    if place.execution.checkpoint_store and not built.cached:
        Storage(place.execution.checkpoint_store).remove(place.store.workspace(spec).name)  # as the scratch copies are
    return built
