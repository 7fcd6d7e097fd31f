"""What the artifacts of a release say of the data that its models learned from: sources, sizes, languages, and what models and users wrote."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from modelyard.formats import json_file
from modelyard.formats.instructions import read_record
from modelyard.release.card.content_parts import Answer, Source
from modelyard.release.training_content import SourceOrigin, TrainingContent
from modelyard.store.lineage import source_rows
from modelyard.store.manifest import MANIFEST, SOURCES

STATISTICS = "statistics.json"
FEEDBACK = "human feedback"
"""In the place of a size."""
SIZES = ((1e9, "less than 1 billion tokens"), (1e13, "1 billion to 10 trillion tokens"))


def data_size(inputs: Mapping[str, Path], size: int) -> str:
    """Range of the template, tokens and bytes."""
    tokens = manifest_of(inputs, "tokens").get("metrics", {}).get("tokens/train/tokens")
    text = f"{size / 1e6:,.1f} MB of text after filtering"
    if tokens is None:
        return text
    bracket = next((words for most, words in SIZES if tokens < most), "more than 10 trillion tokens")
    return f"{bracket}: {tokens:,.0f} tokens (documents may be read more than once), of {text}"


def trained(inputs: Mapping[str, Path]) -> dict[tuple[str, str, str, str], int]:
    """(source, kind, language, licence) -> bytes of the corpus's training split."""
    rows = statistics_of(inputs, "corpus").get("groups", {})
    split = ((key.split("\t"), size) for key, size in rows.items())
    return {(key[1], key[2], key[3], key[4]): int(size) for key, size in split if key[0] == "train" and key[-1] == "bytes"}


def shares(counted: Counter[str]) -> str:
    """``review 43%, text 40%``."""
    whole = sum(counted.values())
    return ", ".join(f"{name} {size / whole:.1%}" for name, size in counted.most_common() if size)


def sources(inputs: Mapping[str, Path], given: TrainingContent) -> Iterator[Source]:
    """Every source that a document of the training split or a record of feedback came from."""
    sizes = Counter[str]()
    for (source, *_), size in trained(inputs).items():
        sizes[source] += size
    for role in ("corpus", "feedback"):
        for row in rows_of(inputs, role):
            group = row["name"].split("/")[0]
            if role == "feedback" or group in sizes:
                yield listed(row, f"{sizes[group] / 1e6:,.2f} MB" if role == "corpus" else FEEDBACK, given)


def pictured(source: Source, inputs: Mapping[str, Path]) -> bool:
    """Whether a source may hold images: it is of feedback, some of which does."""
    return source.size == FEEDBACK and bool(manifest_of(inputs, "feedback").get("config", {}).get("images"))


def listed(row: Mapping[str, Any], size: str, given: TrainingContent) -> Source:
    """A row of ``sources.json``, with what the config says of it."""
    own = given.sources.get(row["name"], SourceOrigin())
    link, package, path = "", str(row.get("package") or ""), str(row.get("path") or "")
    if row.get("dist") or (row.get("format") == "installation" and package != "python"):
        link = f"https://pypi.org/project/{package}/{row.get('version', '')}/"
    elif package == "python":
        link = f"https://www.python.org/downloads/release/python-{str(row.get('version', '')).replace('.', '')}/"
    elif match := re.match(r"hf://(datasets/[^/]+/[^/@]+)", path):
        link = f"https://huggingface.co/{match[1]}"
    what = own.description or " ".join(filter(None, (package or path, str(row.get("version") or ""))))
    collected = " to ".join(filter(None, (own.collected_from, own.collected_until)))
    return Source(
        row["name"], own.kind or ("public" if link else None), what, own.link or link, str(row.get("licence", "")), size, collected
    )


def users(inputs: Mapping[str, Path]) -> Iterator[Answer]:
    """Prompts that users of a served version agreed to give (``modelyard feedback``)."""
    counts = statistics_of(inputs, "feedback")
    given = int(sum(counts.get(f"feedback/prompts_from/{kind}", 0) for kind in ("user", "user_based")))
    if given:
        yield Answer(
            "What users gave",
            f"{given:,} prompts, with the consent of whoever wrote them; votes and corrections as thumbs, comparisons and demonstrations",
        )
    flagged = int(sum(counts.get(f"feedback/flags/{split}", 0) for split in ("reward", "gold", "test")))
    if flagged:
        yield Answer("What users flagged", f"{flagged:,} answers that they called factual or not, with the consent of whoever asked")


def synthetic(inputs: Mapping[str, Path]) -> Iterator[Answer]:
    """What models wrote that a model of the line learned from, and which models."""
    if "instructions" in inputs:
        record = read_record(inputs["instructions"])
        who = f"{record.teacher.name} ({record.teacher.identity}; licence: {record.teacher.licence})"
        yield Answer("Demonstrations of another model", f"{record.kept:,} instructions and answers that {who} wrote")
    if "ai_feedback" in inputs:
        counts = manifest_of(inputs, "ai_feedback").get("metrics", {})
        judges = sorted({one["judge"] for one in _table(inputs["ai_feedback"] / "ai_feedback.json").get("agreement", []) if "judge" in one})
        made = int(counts.get("ai_feedback/comparisons/made", 0))
        by = f", judged by {', '.join(judges)}" if judges else ""
        yield Answer("Comparisons of the model's own samples", f"{made:,} comparisons of completions of the line's SFT model{by}")
    if "feedme" in inputs:
        yield Answer(
            "Demonstrations of the model's own", "Completions of the line's SFT model that its reward model or people put first (FeedME)"
        )
    algorithm = manifest_of(inputs, "policy").get("config", {}).get("algorithm", "")
    for row in rows_of(inputs, "policy") if algorithm == "opd" else []:
        who = f"{row['name']} ({row.get('sha256', 'unknown hash')}; licence: {row.get('licence', 'unknown')})"
        yield Answer("Probabilities of another model", f"The policy learned from how likely {who} found every token of its completions")
    if algorithm in ("ppo", "grpo", "rloo"):
        yield Answer(
            "Samples during training of the policy",
            f"The policy learned from its own completions, scored by the line's reward models ({algorithm})",
        )


def statistics_of(inputs: Mapping[str, Path], role: str) -> dict[str, Any]:
    """What a data stage counted; empty for one that the line lacks."""
    return _table(inputs[role] / STATISTICS) if role in inputs else {}


def manifest_of(inputs: Mapping[str, Path], role: str) -> Any:
    """What the artifact says of itself; empty for one that the line lacks."""
    return _table(inputs[role] / MANIFEST) if role in inputs else {}


def rows_of(inputs: Mapping[str, Path], role: str) -> list[dict[str, Any]]:
    """The rows of an artifact's ``sources.json``; none where it has none."""
    file = inputs[role] / SOURCES if role in inputs else None
    return source_rows(file.read_bytes(), f"{role}/{SOURCES}") if file and file.is_file() else []


def _table(path: Path) -> dict[str, Any]:
    """A file's table; empty where it is not there. Raises ValueError naming the file."""
    return json_file.table(path) if path.is_file() else {}
