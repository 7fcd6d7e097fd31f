"""What an evals stage measured, as files: estimates, weights, benchmarks, and the records of every item.

``results.json`` maps ``evals/{model}/{benchmark}/{metric}`` to an estimate, ``weights.json`` a model to the fingerprint
of what answered, ``benchmarks.json`` a benchmark to :class:`Measured`; ``records/{model}/{benchmark}.jsonl`` holds one
line an item. ``calibration.json`` holds :class:`Reliability` of each benchmark that measures confidence.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field, TypeAdapter, ValidationError

from modelyard.complaint import first_error
from modelyard.config import Config
from modelyard.formats import json_file
from modelyard.formats.records import Record, read_records, write_records
from modelyard.stats.calibration import Bin
from modelyard.stats.estimate import Estimate
from modelyard.stats.misclassification import JudgeError

Rows = Sequence[Mapping[str, Any]]
"""Per-item records of one model on one benchmark."""


class Measured(Config):
    """What the gates and the card have to know of a benchmark beside its records."""

    id: str
    """Hash of everything that a score depends on beside the model."""
    metrics: tuple[str, ...]
    """The metrics, the one that stands for the benchmark first."""
    aspect: str = ""
    """``safety``: held to limits by the safety gate."""
    sides: tuple[str, ...] = ()
    """Groups of items that are compared each by itself."""
    between_versions: bool = True
    """Whether versions are compared on it: any model can be asked, and no other model has a part in the score."""
    searched: bool = True
    """Whether its items are looked for in training sets."""
    images: Literal["", "shown", "blank"] = ""
    """Whether its items hold images, and whether those were shown or, as a control, all grey."""
    judge_errors: dict[str, JudgeError] = Field(default_factory=dict)
    """Metric -> how what judges its replies does on labelled ones, where that was measured."""


class Reply(Config):
    """What a model says of an item with images."""

    said: str
    score: float


class Shown(Config):
    """An item with images, as the card shows it."""

    benchmark: str
    item: str
    """Its id."""
    images: tuple[str, ...]
    """Data URLs of PNGs."""
    question: str
    choices: tuple[str, ...]
    """Options, where there are any."""
    target: str
    """The right answer."""
    replies: dict[str, Reply]
    """Model -> what it says."""


class Reliability(Config):
    """Confidence against accuracy of one model on one benchmark."""

    error: float
    """Expected calibration error."""
    bins: tuple[Bin, ...]


class Results(NamedTuple):
    """What the evals stage measured."""

    metrics: Mapping[str, Estimate]
    """``evals/{model}/{benchmark}/{metric}`` -> value."""
    weights: Mapping[str, str]
    """Model -> fingerprint of the weights scored."""
    benchmarks: Mapping[str, Measured]
    """Benchmark -> what it is."""
    records: Mapping[str, Mapping[str, Rows]]
    """Model -> benchmark -> per-item records; production's results hold those of the policy alone."""
    shares: frozenset[str] = frozenset()
    """The metrics that must lie in [0, 1]."""

    def of(self, model: str) -> Mapping[str, Rows]:
        """Benchmark -> records of one model; none where it was not asked."""
        return self.records.get(model, {})


def measured(models: Sequence[str], inputs: Mapping[str, Path]) -> tuple[str, ...]:
    """Those of ``models`` that are measured, of a stage's inputs; an SFT model that is itself what is released counts once, as the policy."""
    return tuple(name for name in models if name in inputs and not (name == "sft" and ends_with_sft(inputs)))


def ends_with_sft(inputs: Mapping[str, Path]) -> bool:
    """Whether the line has no policy, so that its SFT model plays that role."""
    return "sft" in inputs and inputs["sft"] == inputs.get("policy")


_BENCHMARKS = TypeAdapter(dict[str, Measured])
SHOWN = "shown.json"
_SHOWN = TypeAdapter(list[Shown])
_CALIBRATION = TypeAdapter(dict[str, dict[str, Reliability]])


def ends_with_feedme(inputs: Mapping[str, Path]) -> bool:
    """Whether the line has no policy and its second SFT model, of FeedME's demonstrations, plays that role."""
    return "sft_start" in inputs and inputs["sft_start"] == inputs.get("policy")


def read_results(directory: Path) -> Results:
    """A results artifact. Raises ValueError naming the file that is missing or damaged."""
    try:
        table = json_file.table(directory / "results.json")
        metrics = {key: Estimate.of(entry) for key, entry in table.items()}
        weights = json_file.table(directory / "weights.json")
        benchmarks = _BENCHMARKS.validate_python(json_file.table(directory / "benchmarks.json"))
    except ValidationError as error:
        raise ValueError(f"{directory / 'benchmarks.json'}: not a results artifact: {first_error(error)}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{directory}: not a results artifact: {error}") from None
    records = {
        model.name: {file.stem: read_records(file)[file.stem] for file in sorted(model.glob("*.jsonl"))}
        for model in sorted((directory / "records").glob("*"))
    }
    shares = frozenset(key for key, entry in table.items() if entry.get("share"))
    return Results(metrics, weights, benchmarks, records, shares)


def write_results(
    out: Path,
    metrics: Mapping[str, Estimate],
    shares: frozenset[str],
    weights: Mapping[str, str],
    benchmarks: Mapping[str, Measured],
) -> None:
    """What the gates read, except the records (:func:`write_answers`); ``shares``: metrics that must lie in [0, 1]."""
    files = {
        "results.json": {key: {**estimate.plain(), "share": key in shares} for key, estimate in metrics.items()},
        "weights.json": dict(weights),
        "benchmarks.json": _BENCHMARKS.dump_python(dict(benchmarks), mode="json"),
    }
    for name, content in files.items():
        (out / name).write_text(json.dumps(content, indent=1, ensure_ascii=False), "utf-8")


def write_answers(out: Path, model: str, records: Mapping[str, Sequence[Record]]) -> None:
    """The records of one model, benchmark by benchmark."""
    for name, rows in records.items():
        write_records(out / "records" / model / f"{name}.jsonl", rows)


def read_calibration(directory: Path) -> dict[str, dict[str, Reliability]]:
    """Benchmark -> model -> reliability. Raises ValueError naming the file."""
    return json_file.read(directory / "calibration.json", _CALIBRATION)


def read_shown(directory: Path) -> list[Shown]:
    """Items with images, and what was said of them; none of results without."""
    return json_file.read(directory / SHOWN, _SHOWN) if (directory / SHOWN).is_file() else []


def write_shown(directory: Path, shown: Sequence[Shown]) -> None:
    """:func:`read_shown`'s file; none where there is nothing to show."""
    if shown:
        (directory / SHOWN).write_bytes(_SHOWN.dump_json(list(shown), indent=1))


def write_calibration(directory: Path, found: Mapping[str, Mapping[str, Reliability]]) -> None:
    """:func:`read_calibration`'s file."""
    content = {name: {model: one.model_dump(mode="json") for model, one in by.items()} for name, by in found.items()}
    (directory / "calibration.json").write_text(json.dumps(content, indent=1), "utf-8")
