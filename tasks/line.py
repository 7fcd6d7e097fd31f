"""A line under way: it builds the stages that its config asks for and knows what it has built so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple, get_args

from prefect import task
from prefect.futures import PrefectFuture, as_completed

from modelyard.adapters import terminal
from modelyard.adapters.ray import cluster as ray_cluster
from modelyard.adapters.ray import train as ray_train
from modelyard.adapters.ray.fit import interrupt_held, sigterm
from modelyard.config import Config, digest
from modelyard.formats.expectation import checked_code
from modelyard.progress import Report
from modelyard.store.artifacts import Built
from modelyard.store.manifest import Artifact, Spec
from modelyard.store.selection import chosen
from modelyard.store.storage import Storage
from tasks.build import Place, build, finished, is_transient, line_of, shown_as_cached
from tasks.line_config import ALONE, LineConfig
from tasks.stage import Name, On, Stage
from tasks.stage_memory import base_model, peak_bytes
from tasks.stages import METRICS, RELEASED, STAGES

DECISION: Name = "decision"
"""Decided anew by every run that has results."""


def _unknown() -> int | None:
    return None


class Planned(NamedTuple):
    """A stage with all that defines its artifact."""

    stage: Stage
    config: Config
    parents: Mapping[str, Artifact]
    order: tuple[Name, ...] = ()
    """The stages of the line."""
    needed: Callable[[], int | None] = _unknown
    """Gives the bytes of a rank at the peak, where they are known."""


class Line:
    """Stages of one run, in the order that the flow asks for them."""

    def __init__(self, config: LineConfig) -> None:
        self.config = config
        self.place = Place(config.name, config.execution)
        self.built: dict[Name, Built] = {}
        self.order: tuple[Name, ...] = tuple(name for name in get_args(Name) if name == DECISION or name in stages_of(config))

    def build(self, *names: Name) -> None:
        """Build the stages, but those that the config does not ask for.

        Stages that are named together do not read each other; they are built at the same time where ``execution.parallel_stages`` allows it.

        Raises:
            KeyError: a stage reads what has not been built.
        """
        planned = [self.planned(name) for name in names if stage_of(self.config, name)]
        if self.place.execution.parallel_stages and len(planned) > 1:
            built = self._beside_each_other(planned)
        else:
            built = [finished(_task(one)(one, self.place)) for one in planned]
        self.built |= {one.stage.name: made for one, made in zip(planned, built, strict=True)}

    def _beside_each_other(self, planned: Sequence[Planned]) -> list[Built]:
        if not all(self.place.store.find(spec.name, spec.version) for spec in (spec_of(one, self.place) for one in planned)):
            ray_cluster.connect()  # before the threads that want it, and by the one that signals come to
        with sigterm() as told:  # the threads that build them hear it too
            futures: list[PrefectFuture[Any]] = []
            try:
                with interrupt_held():  # none is begun and not known
                    begun = (_task(one).submit(one, self.place) for one in planned)
                    futures.extend(begun)  # one by one, for when the next cannot be begun
                for future in as_completed(futures):
                    future.result()  # raises what the first that fails raised
                return [finished(future.result()) for future in futures]
            except BaseException:  # one has failed, or Ctrl-C: the others end after their step, and nothing goes on behind the line's back
                told.set()
                for future in futures:
                    future.wait()
                raise

    def build_from(self, name: Name, config: Config, given: Mapping[str, Artifact] = {}) -> Built:
        """Build one stage from a config that is made for it, with ``given`` artifacts in the place of the line's own, and remember it."""
        stage = next(one for one in STAGES if one.name == name)
        planned = Planned(stage, config, {**self._parents(stage, given), **given}, self.order)
        self.built[name] = finished(_task(planned)(planned, self.place))
        return self.built[name]

    def artifact(self, *names: Name) -> Artifact:
        """The first of the artifacts that the line has. Raises KeyError where it has none of them."""
        return self.built[next((name for name in names if name in self.built), names[0])].artifact

    @property
    def released(self) -> Artifact:
        """The model that is released."""
        return self.artifact(*RELEASED)

    def has(self, name: Name) -> bool:
        """Whether the stage is built."""
        return name in self.built

    def lines(self) -> list[terminal.StageLine]:
        """A row of the summary for every stage built."""
        return [line_of(built, METRICS[name]) for name, built in self.built.items()]

    def planned(self, name: Name) -> Planned:
        """A stage that the config asks for, with what is built of what it reads. Raises KeyError where something of that is not built."""
        stage, config = stage_of(self.config, name), self.config.of(name)
        if stage is None or config is None:
            raise KeyError(name)
        return Planned(stage, config, self._parents(stage, {}), self.order, self._memory(name))

    def _memory(self, name: Name) -> Callable[[], int | None]:
        """What gives the bytes of a rank at the stage's peak: reading the base model's shape is for who wants to know."""
        return lambda: peak_bytes(name, self.config, base_model(self.config))

    def _parents(self, stage: Stage, given: Mapping[str, Artifact]) -> dict[str, Artifact]:
        wanted = {role: names for role, names in stage.reads.items() if role not in given}
        used = {role: names for role, names in stage.may_read.items() if any(name in self.built for name in names)}
        return {role: self.artifact(*names) for role, names in {**wanted, **used}.items()}


def stage_of(config: LineConfig, name: Name) -> Stage | None:
    """The stage as this line's config has it; None where it has none."""
    table = config.of(name)
    return next((one for one in STAGES if one.name == name and isinstance(table, one.config)), None)


def stages_of(config: LineConfig) -> dict[Name, Stage]:
    """The stages that a config asks for, in order, but those that every run decides anew."""
    names: list[Name] = [name for name in get_args(Name) if name not in ("baseline", DECISION)]
    return {name: stage for name in names if (stage := stage_of(config, name))}


def _task(planned: Planned) -> Any:
    """The stage as a Prefect task of its name. Without a time limit: how long one takes follows from its data, a build of another run is waited
    for, and ranks that hang are the watchdog's."""
    stage = planned.stage
    return _stage_task.with_options(name=stage.name, task_run_name=stage.name, retries=stage.retries)


def spec_of(planned: Planned, place: Place) -> Spec:
    """What defines the artifact of a stage: products in fp8 count as other code than those in bf16."""
    stage, execution = planned.stage, place.execution
    code = checked_code((stage.run.__module__, *stage.also), stage.suites)
    if execution.fp8 and stage.on is not On.DRIVER:
        code = digest({"code": code, "fp8": [execution.fp8, execution.fp8_recipe]})
    return Spec(stage.name, stage.defined(planned.config, place, planned.parents), planned.parents, code)


@task(retry_delay_seconds=5, retry_condition_fn=is_transient)
def _stage_task(planned: Planned, place: Place) -> Any:
    """Find the artifact of a stage, or build it."""
    stage = planned.stage
    spec = spec_of(planned, place)
    names = cache(lambda: chosen(stage.choices(planned.config), planned.parents, place.store))
    built = build(spec, partial(_produced, planned, place, names), place, stage.metric, planned.order, names)
    if place.execution.checkpoint_store and not built.cached and stage.on is not On.DRIVER:
        Storage(place.execution.checkpoint_store).remove(place.store.workspace(spec).name)  # as the scratch copies are
    return shown_as_cached(built)


def _produced(
    planned: Planned,
    place: Place,
    names: Callable[[], Mapping[str, frozenset[str]]],
    inputs: Mapping[str, Path],
    out: Path,
    checkpoints: Path,
    report: Report,
) -> Mapping[str, float]:
    """Run the stage where it belongs; ``names``: the files that it reads of a role's artifact, where not all."""
    stage, config = planned.stage, planned.config
    if stage.on is On.DRIVER:
        return stage.run(config, inputs, out, report, **stage.given(config, place))
    execution = place.execution if stage.on is On.RANKS else place.execution.model_copy(update=ALONE)
    return ray_train.launch(stage.name, stage.run, config, inputs, out, checkpoints, execution, report, names(), planned.needed)
