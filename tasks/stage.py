"""What the list of stages says of one: its name, what it runs and reads, and where it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from modelyard.config import Config
from modelyard.store.manifest import Artifact
from modelyard.store.selection import Choice
from tasks import reading
from tasks.build import Place

Name = Literal[
    "corpus",
    "held_out",
    "feedback",
    "benchmarks",
    "harm_labels",
    "imported",
    "instructions",
    "tokens",
    "contamination",
    "continuations",
    "forecast",
    "base",
    "no_contam_tokens",
    "no_contam",
    "projector",
    "no_vision_projector",
    "sft",
    "no_vision",
    "harm_features",
    "content_classifier",
    "ai_feedback",
    "reward",
    "gold",
    "selection",
    "feedme",
    "sft_start",
    "start_selection",
    "rbrm",
    "reference",
    "before",
    "policy",
    "results",
    "baseline",
    "decision",
    "export",
]
"""Stages in the order of the line."""

Reads = Mapping[str, tuple[Name, ...]]
"""Role -> artifacts that may play it."""


class On(Enum):
    """Where a stage runs."""

    DRIVER = "driver"
    """In the flow's own process."""
    ONE_RANK = "one rank"
    """On one rank of a Ray Train worker group, whatever the layout."""
    RANKS = "ranks"
    """On every rank of the layout."""


def _nothing(config: Any, place: Place) -> dict[str, Any]:
    return {}


def _itself(config: Any, place: Place, parents: Mapping[str, Artifact]) -> Any:
    return config


class Stage(NamedTuple):
    """One row of the list."""

    name: Name
    """Of the stage, its artifact, its config table and its metrics."""
    run: Callable[..., Mapping[str, float]]
    """``run(config, inputs, out, report)`` on the driver, ``run(config, inputs, out, checkpoints, execution, report)`` on ranks."""
    config: type[Config]
    """Class of the config by which the line has this stage."""
    reads: Reads
    """What it cannot do without."""
    may_read: Reads = MappingProxyType({})
    """What it uses where the line has it."""
    on: On = On.RANKS
    metric: str = ""
    """The metric that stands for it in the summary; ``*`` stands for a benchmark's name."""
    given: Callable[[Any, Place], Mapping[str, Any]] = _nothing
    """(config, place) -> what ``run`` is handed besides on the driver; no part of the artifact."""
    defined: Callable[[Any, Place, Mapping[str, Artifact]], Config] = _itself
    """(config, place, parents) -> what defines the artifact."""
    also: tuple[str, ...] = ()
    """Modules whose code defines the artifact besides that of ``run``."""
    suites: tuple[str, ...] = ()
    """Suites of expectations that it has checked; what they say defines the artifact too."""
    choices: Callable[[Any], Mapping[str, Choice]] = reading.whole
    """config -> role -> which files it reads of that role's artifact; what it reads of another is all of it."""
    retries: int = 0
    """Times that it is tried again after an error that may pass."""


def reads(*names: Name, **roles: tuple[Name, ...]) -> Reads:
    """Artifacts by their own names, and roles with the artifacts that may play them, the preferred one first."""
    return {name: (name,) for name in names} | roles
