"""What a run would do, before any work: which stages the store has, which would be built, how long they took before and what they need.

A stage's fingerprint follows from its parents', so below the first stage that is to be built nothing can be looked up: all of it is to be built,
though a run may find that a rebuilt parent has the old content. The stages are those that a run counts; ``decision`` is made anew by every run, from
what is in production then. Nothing is written, fetched from a package index or started. Left out: ``baseline``, which a run measures where it must.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from modelyard.adapters.mlflow.past_builds import PastBuild, past_builds
from modelyard.adapters.mlflow.server import tracking_uri
from modelyard.config import Config
from modelyard.model.network import devices
from modelyard.pretrain import import_model
from modelyard.pretrain.import_model import ImportConfig
from modelyard.store.artifacts import Built
from tasks.few_items import few_items
from tasks.line import DECISION, Line, spec_of, stages_of
from tasks.line_config import LineConfig
from tasks.missing import is_remote, missing, to_fetch
from tasks.stage import Name, Stage
from tasks.stage_memory import base_model, peak_bytes


class Row(NamedTuple):
    """One stage of the outlook."""

    stage: str
    """Its name."""
    artifact: str
    """``name/version``, "" where it cannot be known yet."""
    cached: bool
    """Whether the store has it."""
    seconds: float | None
    """Wall time of its newest build; None where none is recorded."""
    changed: tuple[str, ...]
    """Keys of its config that differ from that build's."""
    bytes: int | None
    """Memory of a rank at the peak; None for stages on the driver and where the model is not known."""
    anew: bool = False
    """Whether every run makes it anew."""


class Outlook(NamedTuple):
    """What a run of a config would do."""

    rows: list[Row]
    """The stages, in order."""
    missing: list[str]
    """What a run would be refused for, one line each."""
    few: list[str]
    """Benchmarks with too few items to decide, one line each."""
    fetched: list[str]
    """Packages that a run would fetch with pip first, as ``NAME==VERSION``."""
    store: str
    """URL of the store that was looked into."""
    gpus: str
    """This machine's GPUs with driver, NCCL and free memory; "" where there are none or ``execution.device`` leaves them alone."""


def outlook(config: LineConfig) -> Outlook:
    """Look into store, tracker and inputs. Raises StorageError where the store does not answer."""
    line, lacking = Line(config), missing(config)
    past, model, rows = past_builds(tracking_uri(), config.name), base_model(config), []
    for name, artifact, cached in looked_up(line, not lacking.data):
        if name == DECISION:
            rows.append(Row(name, "", False, past[name].seconds if name in past else None, (), None, anew=True))
        else:
            rows.append(row(name, config, artifact, cached, past, peak_bytes(name, config, model)))
    gpus = "" if config.execution.device == "cpu" else devices.found()
    fetched = [] if line.has("corpus") else to_fetch(config)
    return Outlook(rows, [*lacking.data, *lacking.others], few_items(config), fetched, line.place.store.storage.url, gpus)


def looked_up(line: Line, sources: bool = True) -> Iterator[tuple[Name, str, bool]]:
    """Of every stage its name, its artifact ("" where it cannot be known yet) and whether the store has it; the line has what is found.

    ``sources``: whether the corpus's inputs are there; without them, or with one behind a URL, its artifact is not known. Nor is that of a model
    that is not there.
    """
    present = stages_of(line.config)
    known = {"corpus": sources and not is_remote(line.config)}
    if isinstance(table := line.config.of("imported"), ImportConfig):
        known["imported"] = import_model.can_be_read(table, line.place.execution.roots, line.place.store)
    for name in line.order:
        artifact, cached = "", False
        if name != DECISION and ready(present[name], present, line) and known.get(name, True):
            spec = spec_of(line.planned(name), line.place)
            artifact = f"{spec.name}/{spec.version}"
            if found := line.place.store.built(spec):
                line.built[name], cached = Built(found, cached=True), True
        yield name, artifact, cached


def ready(stage: Stage, present: Mapping[Name, Stage], line: Line) -> bool:
    """Whether all that the stage would read is in the store: of each role the artifact that the run would take."""
    players = [*stage.reads.values(), *stage.may_read.values()]
    taken = [next((name for name in names if name in present), None) for names in players]
    return all(name is None or line.has(name) for name in taken)


def row(name: Name, config: LineConfig, artifact: str, cached: bool, past: Mapping[str, PastBuild], needed: int | None) -> Row:
    """A stage's row; what a build took and needs is said of stages that are to be built."""
    if cached:
        return Row(name, artifact, cached, None, (), None)
    before, table = past.get(name), config.of(name)
    assert isinstance(table, Config)  # the line has the stage
    changed = before.changed(table.model_dump(mode="json")) if before else []
    return Row(name, artifact, cached, before.seconds if before else None, tuple(changed), needed)
