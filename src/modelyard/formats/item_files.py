"""Per-item result files of other evaluation tools as the rows that :mod:`modelyard.formats.records` reads.

| tool | file | benchmark | score |
| --- | --- | --- | --- |
| lm-evaluation-harness | ``samples_{task}_{time}.jsonl`` | the task and the filter, unless ``none`` | the first of ``metrics`` |
| inspect_ai | ``.eval``, ``.json``, samples as JSON lines | task; each scorer by itself | C 1, P 0.5, I and N 0, or a number |
| HELM | ``per_instance_stats.json`` | the run's folder without its model | the first of :data:`HELM_METRICS` |
| OpenCompass | ``{dataset}.json`` with ``details`` | the file's name | ``correct`` or ``is_correct`` |

A row names what was asked by ``content``, a hash, where the tool says it (HELM and OpenCompass in a file beside:
:mod:`modelyard.formats.item_contents`): the same item of two files must have the same.
A score that cannot be read is an error, never 0. Left out: samples of inspect_ai that ended with an error, and whatever these tools
average themselves.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from modelyard.complaint import complaint
from modelyard.config import digest
from modelyard.formats import item_contents, json_file
from modelyard.formats.json_file import Line

GRADES = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}
"""inspect_ai's correct, partially correct, incorrect, no answer."""
HELM_METRICS = ("exact_match", "quasi_exact_match", "final_number_exact_match", "math_equiv", "test_avg", "f1_score", "rouge_l")
UNFILTERED = "none"
"""lm-evaluation-harness's filter that takes replies as they are."""
LOWER_IS_BETTER = (
    *("perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte", "brier_score", "ter", "wer", "mse", "mae"),
    *("likelihood_diff", "pct_stereotype"),
)
ABOVE_ONE = ("bleu", "chrf", "rouge1", "rouge2", "rougeL", "rougeLsum", "f1", "exact")
"""Metrics of lm-evaluation-harness of which more is better though they go beyond 1."""
SAMPLES = re.compile(r"samples_(?P<task>.+?)(?:_\d{4}-\d\d-\d\dT[\d.:-]+)?\.jsonl?(?:\.gz)?$")


def rows(path: Path) -> Iterator[Line]:
    """The rows of a file of ours or of another tool. Raises ValueError naming file, line or sample."""
    if path.is_file() and zipfile.is_zipfile(path):  # a device has no end to look for
        yield from inspect_log(path, *unpacked(path))
    elif re.search(r"\.json(\.gz)?$", path.name) and (whole := one_value(path)) is not None:
        yield from of_value(path, whole)
    else:
        yield from of_lines(path, list(json_file.lines(path)))


def one_value(path: Path) -> Any:
    """What a ``.json`` file holds; None where it is JSON lines under another name."""
    text = json_file.text_of(path)
    try:
        return json_file.parse(text, str(path))
    except ValueError:
        if text.lstrip().startswith("{") and "\n{" in text:
            return None
        raise


def of_value(path: Path, whole: Any) -> Iterator[Line]:
    """Rows of one JSON value. Raises ValueError where it is no tool's."""
    if isinstance(whole, dict) and "samples" in whole and "eval" in whole:
        samples = [Line(f"{path}: sample {number}", one) for number, one in enumerate(objects(path, whole["samples"]), 1)]
        yield from inspect_log(path, whole, samples)
    elif isinstance(whole, dict) and "details" in whole:
        yield from opencompass(path, whole["details"])
    elif isinstance(whole, list) and whole and all(isinstance(one, dict) and "stats" in one for one in whole):
        yield from helm(path, whole)
    else:
        listed = objects(path, whole if isinstance(whole, list) else [whole])
        yield from of_lines(path, [Line(f"{path}: row {number}", one) for number, one in enumerate(listed, 1)])


def objects(path: Path, value: Any) -> list[dict[str, Any]]:
    """A list of objects. Raises ValueError naming the file for anything else."""
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise ValueError(f"{path}: not a list of JSON objects")
    return value


def of_lines(path: Path, lines: list[Line]) -> Iterator[Line]:
    """Rows of JSON lines: ours as they are, lm-evaluation-harness's and inspect_ai's turned."""
    named = SAMPLES.search(path.name)
    for where, row in lines:
        if is_harness(row):
            task = str(row.get("task") or row.get("task_name") or (named["task"] if named else "benchmark"))
            name = task if row.get("filter") in (None, UNFILTERED) else f"{task} ({row['filter']})"
            asked = row.get("doc_hash") or row.get("doc")
            content = {"content": digest([asked, row.get("target_hash")])} if asked else {}
            yield Line(where, {**row, "benchmark": name, "score": harness_score(where, row), **content})
        elif isinstance(row.get("scores"), dict):
            yield from inspect_sample(where, str(row.get("task") or "benchmark"), row)
        else:
            yield Line(where, row)


def is_harness(row: Mapping[str, Any]) -> bool:
    """Whether a row is of lm-evaluation-harness's ``--log_samples``."""
    return "doc_id" in row and isinstance(row.get("metrics"), list)


def harness_score(where: str, row: Mapping[str, Any]) -> float:
    """The first of the row's ``metrics`` that is a number of which more is better."""
    for name in row["metrics"]:
        if name not in LOWER_IS_BETTER and (value := number(row.get(str(name)))) is not None:
            if not 0 <= value <= 1 and name not in ABOVE_ONE:
                raise ValueError(f"{where}: {name} is {value:g}, and whether more of it is better is not known; give each row a score")
            return value
    raise ValueError(f"{where}: none of its metrics ({', '.join(map(str, row['metrics'])) or 'none named'}) is a score of the item")


def number(value: Any) -> float | None:
    """A true or false, or a number; None for anything else."""
    return float(value) if isinstance(value, bool | int | float) else None


def unpacked(path: Path) -> tuple[dict[str, Any], list[Line]]:
    """Header and samples of an ``.eval`` archive. Raises ValueError where it is another archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = sorted(name for name in archive.namelist() if name.startswith("samples/") and name.endswith(".json"))
            if "header.json" not in archive.namelist() or not names:
                raise ValueError(f"{path}: a zip archive without header.json and samples/, so no log of inspect_ai")
            header = json_file.parse(archive.read("header.json"), f"{path}: header.json")
            parsed = [Line(f"{path}: {name}", json_file.parse(archive.read(name), f"{path}: {name}")) for name in names]
    except (zipfile.BadZipFile, NotImplementedError, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: cannot be read: {complaint(error)}") from None
    objects(path, [header, *(one.fields for one in parsed)])
    return header, parsed


def inspect_log(path: Path, header: Mapping[str, Any], samples: Iterable[Line]) -> Iterator[Line]:
    """Rows of a log of inspect_ai."""
    about = header.get("eval")
    task = about.get("task") if isinstance(about, dict) else None
    if not isinstance(task, str):
        raise ValueError(f"{path}: a log of inspect_ai that names no task")
    for where, sample in samples:
        if not sample.get("error") or sample.get("scores"):  # one that ended with an error has none
            yield from inspect_sample(where, task, sample)


def inspect_sample(where: str, task: str, sample: Mapping[str, Any]) -> Iterator[Line]:
    """A row for each scorer of a sample; epochs are samples of one item."""
    scores = sample.get("scores")
    if not isinstance(scores, dict) or not scores:
        raise ValueError(f"{where}: no scores (did its run end with an error?)")
    content = digest([sample["input"], sample.get("target")]) if "input" in sample else ""
    for scorer, score in scores.items():
        value = score.get("value") if isinstance(score, dict) else score
        for part, one in value.items() if isinstance(value, dict) else (("", value),):
            points = GRADES.get(one) if isinstance(one, str) else number(one)
            if points is None:
                raise ValueError(f"{where}: score {scorer!r} is {one!r}, neither a number nor one of {', '.join(GRADES)}")
            several = [scorer] if len(scores) > 1 else []
            name = " ".join([task, *(f"({label})" for label in [*several, *([part] if part else [])])])
            yield Line(where, {"item": sample.get("id"), "score": points, "benchmark": name, **({"content": content} if content else {})})


def helm(path: Path, instances: Iterable[Mapping[str, Any]]) -> Iterator[Line]:
    """Rows of HELM; perturbed instances are a benchmark of their own, train trials samples of one item."""
    run = ",".join(part for part in path.resolve().parent.name.split(",") if not part.startswith("model"))
    contents = item_contents.of_helm(path)
    for place, instance in enumerate(instances, 1):
        where = f"{path}: instance {place}"
        means = {
            stat["name"].get("name"): number(stat.get("mean"))
            for stat in instance["stats"]
            if isinstance(stat, dict) and isinstance(stat.get("name"), dict)
        }
        metric = next((name for name in HELM_METRICS if means.get(name) is not None), None)
        if metric is None:
            raise ValueError(f"{where}: none of {', '.join(HELM_METRICS)} among its stats")
        perturbation = item_contents.perturbed(instance.get("perturbation"))
        content = contents.get((str(instance.get("instance_id")), perturbation))
        row = {
            "item": instance.get("instance_id"),
            "score": means[metric],
            "benchmark": f"{run} ({perturbation})" if perturbation else run,
        }
        yield Line(where, {**row, **({"content": content} if content else {})})


def opencompass(path: Path, details: Any) -> Iterator[Line]:
    """Rows of OpenCompass, whose details are a list or a table by number."""
    listed = details if isinstance(details, list) else list(details.values()) if isinstance(details, dict) else details
    if isinstance(listed, list):  # beside its rows a table may say what kind they are
        listed = [one for one in listed if not isinstance(one, str)]
    contents = item_contents.of_opencompass(path)
    for place, row in enumerate(objects(path, listed)):
        found = [value for key in ("correct", "is_correct") if (value := number(row.get(key))) is not None]
        if not found:
            raise ValueError(f"{path}: details {place}: neither 'correct' nor 'is_correct' is a number or true or false")
        content = item_contents.of_prompt(row) or contents.get(str(place))
        known = {"item": place, "score": found[0], "benchmark": path.name.split(".")[0]}
        yield Line(f"{path}: details {place}", {**known, **({"content": content} if content else {})})
