"""What every stage has around its one library call: look in the store, show progress, track in MLflow, commit.

The artifact store alone decides what is cached. Prefect is told, not asked: a stage that was found returns a Completed state named
``Cached`` with the artifact as its data, so both pages say the same and there is no second cache to disagree.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from prefect import get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed

from modelyard.adapters import terminal
from modelyard.adapters.mlflow.past_builds import past_builds
from modelyard.adapters.mlflow.server import tracking_uri
from modelyard.adapters.mlflow.tracker import Tracker
from modelyard.adapters.ray import cluster as ray_cluster
from modelyard.config import Config
from modelyard.execution import ExecutionConfig
from modelyard.model.network.model_config import ModelConfig
from modelyard.progress import PreemptedError, Report, Stop, StopError, request_stop, stop_requested
from modelyard.store.artifacts import Built, Store
from modelyard.store.manifest import Artifact, Spec
from tasks import page

Produce = Callable[[Mapping[str, Path], Path, Path, Report], Mapping[str, float]]
"""(input directories, out, checkpoints, report) -> metrics."""


class Place(NamedTuple):
    """Where a line works: its store and its MLflow experiment."""

    line: str
    """Name of the line."""
    execution: ExecutionConfig
    """Where and how it runs."""

    @property
    def store(self) -> Store:
        """The artifact store."""
        return Store(self.execution.store, self.execution.scratch)

    @property
    def tracker(self) -> Tracker:
        """The line's MLflow experiment."""
        return _tracker(tracking_uri(), self.line)

    def link(self, artifact: Artifact) -> str:
        """Full path of an artifact in the store."""
        storage = self.store.storage
        return storage.path(artifact.ref) if storage.is_local else f"{storage.url}/{artifact.ref}"

    def page(self, artifact: Artifact) -> str:
        """URL of the artifact's MLflow run, empty where it has none; an SQLite file is shown by ``make ui``."""
        return self.tracker.page(artifact.fingerprint)

    def note(self, artifact: Artifact, key: str, text: str) -> None:
        """Tag the artifact's MLflow run."""
        if run_id := self.tracker.find(artifact.fingerprint):
            self.tracker.client.set_tag(run_id, key, text)


@lru_cache(maxsize=4)
def _tracker(uri: str, line: str) -> Tracker:
    return Tracker(uri, line)


def build(
    spec: Spec,
    produce: Produce,
    place: Place,
    metric: str = "",
    order: Sequence[str] = (),
    names: Callable[[], Mapping[str, frozenset[str]]] = dict,
) -> Built:
    """The artifact of ``spec``: found, or made by ``produce`` with progress on the terminal and in MLflow; ``metric`` speaks for it, ``order``
    are the stages of the line in their order, ``names`` says which files of a role's artifact are fetched where not all are.

    Raises PreemptedError where this process was asked to stop during the stage before.
    """
    if stop_requested():
        request_stop(Stop.NOBODY)
        raise PreemptedError(f"stopped by SIGTERM before {spec.name}; run again to go on")
    if found := place.store.built(spec):
        built = Built(found, cached=True)
    else:
        built = _make(spec, produce, place, order, names())
    directory = None if built.cached else place.store.fetch(built.artifact)
    place.tracker.record(built.artifact, place.link(built.artifact), lambda made: directory or place.store.fetch(made))
    page.show(built, directory, place.page(built.artifact), ray_cluster.dashboard(), place.link(built.artifact))
    line = line_of(built, metric)
    terminal.stage_done(line, terminal.console())
    get_run_logger().info("%s %s: %s", built.artifact.ref, "cached" if built.cached else "built", line.metric)
    return built


def _make(spec: Spec, produce: Produce, place: Place, order: Sequence[str], names: Mapping[str, frozenset[str]]) -> Built:
    store, tracker = place.store, place.tracker
    inputs = {role: store.fetch(parent, names.get(role)) for role, parent in spec.parents.items()}
    shown = page.Progress(spec.name)
    with (
        tracker.live(spec, flops_share(spec.config, place.execution)) as run,
        terminal.stage_progress(spec.name, terminal.console(), ahead(spec.name, place, order)) as bar,
    ):

        def report(done: int, total: int, metrics: Mapping[str, float] = {}, unit: str = "step") -> None:
            bar(done, total, metrics, unit)
            run.report(done, total, metrics, unit)
            shown(done, total, unit)

        return store.build(spec, lambda out, checkpoints: produce(inputs, out, checkpoints, report))


def ahead(stage: str, place: Place, order: Sequence[str]) -> str:
    """Where in the line a stage stands; "" where it is no stage of ``order``."""
    if stage not in order:
        return ""
    rest = order[order.index(stage) :]
    past = _past(tracking_uri(), place.line)
    seconds = sum(past[name] for name in rest) if all(name in past for name in rest) else None
    return terminal.ahead(order.index(stage) + 1, len(order), seconds)


@lru_cache(maxsize=4)
def _past(uri: str, line: str) -> Mapping[str, float]:
    """Stage -> seconds of its newest build before this run."""
    return {stage: build.seconds for stage, build in past_builds(uri, line).items()}


def flops_share(config: Config, execution: ExecutionConfig) -> float:
    """Share of the ranks' peak FLOPs that one token a second is; 0 where the model or the peak is not known."""
    model = getattr(config, "model", None)
    if not execution.peak_tflops or not isinstance(model, ModelConfig):
        return 0.0
    return model.flops_per_token() / (execution.peak_tflops * 1e12 * execution.world_size)


def shown_as_cached(built: Built) -> Any:
    """What a task returns: the artifact, or the state that tells Prefect that it was found, with the artifact as its data."""
    return Completed(name="Cached", message=f"{built.artifact.ref} is in the store", data=built) if built.cached else built


def finished(returned: Any) -> Built:
    """The artifact in what a task returned."""
    built: Built = returned.result() if isinstance(returned, State) else returned
    return built


def is_transient(task: Any, run: Any, state: State[Any]) -> bool:
    """Prefect's retry condition: a ValueError is a refusal, which trying again does not change, and who was asked to stop stops."""
    return not isinstance(state.result(raise_on_failure=False), ValueError | StopError)


def line_of(built: Built, metric: str) -> terminal.StageLine:
    """The artifact's row of the summary, with the first metric that the pattern ``metric`` names, else its first."""
    artifact = built.artifact
    named = next(iter(fnmatch.filter(artifact.metrics, metric)), "")
    shown = terminal.with_interval(artifact.metrics, named) or terminal.short_metric(artifact.metrics)
    return terminal.StageLine(artifact.name, artifact.seconds, built.cached, shown)
