"""Contamination of benchmarks by training text: the procedure of the GPT-4 Technical Report (appendix C), seeded.

Items and documents are stripped to letters and digits; three random substrings of 50 characters are drawn from each item (the whole item when it
is shorter), with replacement; an item is contaminated when any of them is a substring of a document. Question and context only, never the answer.
Case is kept: the report removes "all spaces and symbols" and says no more. Unlike the report, the sets that preference and reinforcement learning
use are checked as well. Like it, this has false positives (common phrases) and negatives (paraphrases). An item without a letter or digit
counts as clean.

As a command: ``python -m modelyard.data.contamination --benchmark FILE.jsonl --text-field question --corpus PATH... --seed 0 --json OUT``.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq

from modelyard.config import Config
from modelyard.data.document import DataError
from modelyard.data.sources.files import decode, json_text, read_texts
from modelyard.data.windows import Finder
from modelyard.estimate import proportion
from modelyard.progress import Report

_DROPPED = re.compile(r"[\W_]+")
_ASCII_DROPPED = bytes(code for code in range(128) if not chr(code).isalnum())
_TEXT_FIELD = {"openings": "text", "last_word": "context", "human_eval": "prompt", "held_out_text": "text"}


class ContaminationConfig(Config):
    """The procedure's numbers."""

    seed: int
    """Of the draws."""
    substrings: int
    """Substrings drawn from an item (GPT-4: 3)."""
    length: int
    """Characters of a substring (GPT-4: 50)."""


class Match(NamedTuple):
    """A contaminated item."""

    item: int
    """Index in the benchmark."""
    document: int
    """Index of the first document that holds the substring."""
    substring: str
    """What was found, stripped."""


def strip(text: str) -> str:
    """Letters and digits only, of any script."""
    if text.isascii():
        return text.encode("ascii").translate(None, _ASCII_DROPPED).decode("ascii")
    return _DROPPED.sub("", text)


def draw(item: str, index: int, config: ContaminationConfig) -> list[str]:
    """The substrings of a stripped item; a function of (seed, index, length of the item) alone."""
    if len(item) <= config.length:
        return [item]
    starts = np.random.default_rng([config.seed, index]).integers(0, len(item) - config.length + 1, config.substrings)
    return [item[start : start + config.length] for start in starts.tolist()]


def check(items: list[str], documents: Iterable[str], config: ContaminationConfig) -> list[Match]:
    """Contaminated items in order, each with the first document and substring that were found."""
    return _check([items], documents, config)[0]


def _check(benchmarks: list[list[str]], documents: Iterable[str], config: ContaminationConfig) -> list[list[Match]]:
    """Several benchmarks in one pass over the documents."""
    patterns = [
        (number, index, substring)
        for number, items in enumerate(benchmarks)
        for index, item in enumerate(items)
        for substring in draw(strip(item), index, config)
    ]
    matches: list[dict[int, Match]] = [{} for _ in benchmarks]
    for hit in Finder([substring for _, _, substring in patterns]).search(map(strip, documents)):
        number, index, substring = patterns[hit.pattern]
        earlier = matches[number].get(index)
        if earlier is None or hit.document < earlier.document:
            matches[number][index] = Match(index, hit.document, substring)
    return [[found[index] for index in sorted(found)] for found in matches]


def run(config: ContaminationConfig, inputs: Mapping[str, Path], out: Path, report: Report) -> dict[str, float]:
    """Check every benchmark of ``inputs["corpus"]`` against every set that anything is trained on; the report names the sets searched."""
    corpus = inputs["corpus"]
    files = sorted((corpus / "benchmarks").glob("*.jsonl"))
    benchmarks = {file.stem: _rows(file) for file in files}
    texts = [[str(row[_TEXT_FIELD[name]]) for row in rows] for name, rows in benchmarks.items()]
    result: dict[str, Any] = {name: {"n": len(rows), "sets": {}, "hits": []} for name, rows in benchmarks.items()}
    sets = _training_sets(corpus)
    for done, (training, documents) in enumerate(sets.items(), 1):
        found = _check(texts, (text for _, text in documents), config)
        for (name, rows), matches in zip(benchmarks.items(), found, strict=True):
            result[name]["sets"][training] = {"documents": len(documents), "contaminated": len(matches)}
            result[name]["hits"] += [
                {"item": _item_id(rows[m.item]), "set": training, "document": documents[m.document][0], "substring": m.substring}
                for m in matches
            ]
        report(done, len(sets), unit="set")
    contaminated = {name: sorted({hit["item"] for hit in value["hits"]}) for name, value in result.items()}
    metrics: dict[str, float] = {}
    for name, value in result.items():
        value["contaminated"] = len(contaminated[name])
        share = proportion(len(contaminated[name]), value["n"]) if value["n"] else None
        value["share"] = share.value if share else 0.0
        metrics |= share.flat(f"contamination/{name}/share") if share else {}
    _write_json(out / "report.json", result)
    _write_json(out / "contaminated.json", contaminated)
    return metrics


def _training_sets(corpus: Path) -> dict[str, list[tuple[str, str]]]:
    """Set -> (document id, text)."""
    documents = pq.read_table(corpus / "documents.parquet", filters=[("split", "==", "train")], columns=["id", "text"])
    ratings = {
        split: pq.read_table(corpus / "ratings.parquet", filters=[("split", "==", split)], columns=["id", "text"])
        for split in ("reward", "scorer")
    }
    demonstrations = [row for row in _rows(corpus / "demonstrations.jsonl") if row["split"] == "train"]
    return {
        "pretrain": _pairs(documents),
        "demonstrations": [(row["id"], row["prompt"] + row["completion"]) for row in demonstrations],
        **{f"{split}_comparisons": _pairs(table) for split, table in ratings.items()},
        "prompts": [(row["id"], row["prompt"]) for row in _rows(corpus / "prompts.jsonl")],
    }


def _pairs(table: Any) -> list[tuple[str, str]]:
    return list(zip(table.column("id").to_pylist(), table.column("text").to_pylist(), strict=True))


def _item_id(row: dict[str, Any]) -> str:
    return str(row.get("id", row.get("task_id")))


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line]


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")


def read_corpus(path: Path, text_field: str) -> Iterator[tuple[str, str]]:
    """(name, text) of every document of a file or directory: .jsonl(.gz) and .parquet by row, any other file whole."""
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    for file in files:
        where = f"corpus {file}"
        if not file.is_file():
            raise DataError(f"{where}: no such file")
        if file.suffix == ".parquet":
            yield from ((f"{file}:{n}", text) for n, text in enumerate(read_texts(file, "parquet", text_field, where), 1))
        elif file.name.endswith((".jsonl", ".jsonl.gz")):
            yield from ((f"{file}:{n}", text) for n, text in enumerate(_json_texts(file, text_field, where), 1))
        else:
            yield str(file), decode(file.read_bytes(), where)


def _json_texts(file: Path, text_field: str, where: str) -> list[str]:
    try:
        data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (OSError, EOFError) as error:
        raise DataError(f"{where}: not a readable file: {error}") from None
    lines = decode(data, where).split("\n")
    return [json_text(line, text_field, f"{where}: line {n}") for n, line in enumerate(lines, 1) if line.strip()]


def main(arguments: list[str] | None = None) -> int:
    """The command; 0 when it ran, whatever it found, 2 with one line when an input cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m modelyard.data.contamination", description="GPT-4's contamination check.")
    parser.add_argument("--benchmark", type=Path, required=True, help="JSON lines (.gz allowed), one item a line")
    parser.add_argument("--text-field", required=True, help="field of an item that holds its question and context")
    parser.add_argument("--corpus", type=Path, nargs="+", required=True, help="files or directories of training text")
    parser.add_argument("--corpus-field", default="text", help="field or column of a training document that holds its text")
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    parser.add_argument("--json", type=Path, required=True, help="where the report goes")
    options = parser.parse_args(arguments)
    try:
        items = _json_texts(options.benchmark, options.text_field, f"benchmark {options.benchmark}")
        names: list[str] = []
        documents = _naming(names, (pair for path in options.corpus for pair in read_corpus(path, options.corpus_field)))
        matches = check(items, documents, ContaminationConfig(seed=options.seed, substrings=3, length=50))
    except (DataError, OSError) as error:
        sys.stderr.write(f"contamination: {error}\n")
        return 2
    result = {
        "n": len(items),
        "documents": len(names),
        "contaminated": [match.item for match in matches],
        "share": len(matches) / max(1, len(items)),
        "hits": [{"item": m.item, "document": names[m.document], "substring": m.substring} for m in matches],
    }
    _write_json(options.json, result)
    sys.stdout.write(f"{len(matches)} of {len(items)} items contaminated by {len(names)} documents; report: {options.json}\n")
    return 0


def _naming(names: list[str], pairs: Iterable[tuple[str, str]]) -> Iterator[str]:
    for name, text in pairs:
        names.append(name)
        yield text


if __name__ == "__main__":
    sys.exit(main())
