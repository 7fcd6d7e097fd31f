"""Contamination of any benchmark by any corpus, as a command.

``python -m modelyard.commands.contamination --benchmark FILE.jsonl --text-field question --corpus PATH...
--seed 0 --json OUT [--remove DIR]``

The procedure is :mod:`modelyard.data.contamination.overlap`'s. An item of fewer than 50 letters and digits is searched as a whole, which is
GPT-4's rule and finds common phrases; a document that matches only such items is removed with ``--remove-short`` alone.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

from modelyard.arguments import at_least, between
from modelyard.data.any_corpus import AnyCorpus
from modelyard.data.contamination.overlap import ContaminationConfig, Overlap, check
from modelyard.data.document import DataError
from modelyard.data.record import Tally, TextField
from modelyard.data.record_files import form_of, read

_LENGTH = 50
"""Characters of a substring, GPT-4's."""


def main(arguments: list[str] | None = None) -> int:
    """The command; 0 when it ran, whatever it found, 2 with one line when an input cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m modelyard.commands.contamination", description="GPT-4's contamination check.")
    parser.add_argument("--benchmark", type=Path, required=True, help="JSON lines or Parquet (.gz, .zst allowed), one item a row")
    parser.add_argument("--text-field", required=True, help="field of an item that holds its question and context")
    parser.add_argument("--corpus", type=Path, nargs="+", required=True, help="files or directories of training text")
    parser.add_argument("--corpus-field", default="text", help="field of a training document that holds its text; without it, all strings")
    parser.add_argument("--max-broken", type=between(0, 1), default=0.01, help="share of the corpus' rows that may be unreadable")
    parser.add_argument("--seed", type=at_least(0, int), default=0, help="of the draws")
    parser.add_argument("--json", type=Path, required=True, help="where the report goes")
    parser.add_argument("--remove", type=Path, metavar="DIR", help="also write the corpus to DIR without the documents that were hit")
    parser.add_argument(
        "--remove-short", action="store_true", help=f"remove also what holds nothing but an item of fewer than {_LENGTH} letters and digits"
    )
    options = parser.parse_args(arguments)
    try:
        items = _items(options.benchmark, options.text_field)
        corpus = AnyCorpus(options.corpus, options.corpus_field, options.max_broken)
        _require_apart(options, corpus)
        config = ContaminationConfig(seed=options.seed, substrings=3, length=_LENGTH, ngram=13)
        [found] = check([[item.text for item in items]], corpus.texts(), config)
        if not len(corpus):
            raise DataError(f"corpus {' '.join(map(str, options.corpus))}: no documents")
        result = _result(items, found, corpus)
        if options.remove:
            removed = found.documents if options.remove_short else found.by_length
            result["removed"] = {
                "documents": sorted(map(corpus.name, removed)),
                "directory": str(options.remove),
                "left": corpus.write_without(removed, options.remove),
                "kept_short": len(found.documents) - len(removed),
            }
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", "utf-8")
    except (DataError, OSError) as error:
        sys.stderr.write(f"contamination: {error}\n")
        return 2
    sys.stdout.write(f"{_sentence(result)}; report: {options.json}\n")
    return 0


def _sentence(result: dict[str, Any]) -> str:
    """What was found, in one line."""
    said = [f"{len(result['contaminated'])} of {result['n']} items contaminated"]
    said.append(f"{result['documents_hit']} of {result['documents']} documents hold a match")
    if removed := result.get("removed"):
        said.append(f"{removed['left']} left in {removed['directory']}")
        if removed["kept_short"]:
            said[-1] += f", {removed['kept_short']} of them with a match of items under {_LENGTH} characters only (--remove-short)"
    if result["unreadable"]:
        said.append(f"{len(result['unreadable'])} unreadable rows")
    return "; ".join(said)


def _require_apart(options: argparse.Namespace, corpus: AnyCorpus) -> None:
    """Raise DataError, before anything is searched, when an output would be written over an input or over another output."""
    targets = corpus.targets(options.remove) if options.remove else []
    corpus.require_apart([options.json])
    for output in [options.json, *targets]:
        if output.exists() and output.samefile(options.benchmark):
            raise DataError(f"{output}: would overwrite the benchmark")
    if options.json.resolve() in {target.resolve() for target in targets}:
        raise DataError(f"{options.json}: both the report and a file of the corpus would be written there")


class _Item(NamedTuple):
    """An item of a benchmark."""

    text: str
    named: dict[str, Any]
    """``id``: its own, where its row has one."""


def _items(path: Path, field: str) -> list[_Item]:
    if not path.is_file():
        raise DataError(f"benchmark {path}: no such file")
    form = form_of(path.name)
    tally = Tally(f"benchmark {path}", 0.0)
    rows = tally.take(read(path, "jsonl" if form == "file" else form, TextField(field)))
    items = [_Item(record.text, _own_id(record.row)) for record in rows]
    tally.check()
    if not items:
        raise DataError(f"benchmark {path}: no items")
    return items


def _own_id(row: dict[str, Any]) -> dict[str, Any]:
    value = next((row[key] for key in ("id", "task_id") if row.get(key) is not None), None)
    return {} if value is None else {"id": value if isinstance(value, str | int) else str(value)}


def _result(items: list[_Item], found: Overlap, corpus: AnyCorpus) -> dict[str, Any]:
    by_substring, by_ngram = {match.item for match in found.matches}, {match.item for match in found.ngrams}
    return {
        "n": len(items),
        "short": found.short,
        "not_judged": found.empty,
        "documents": len(corpus),
        "contaminated": sorted(by_substring),
        "share": len(by_substring) / max(1, len(items)),
        "hits": [
            {"item": m.item, **items[m.item].named, "document": corpus.name(m.document), "substring": m.substring} for m in found.matches
        ],
        "documents_hit": len(found.documents),
        "second_opinion": {
            "method": "13-grams of lower-case words (GPT-3)",
            "contaminated": sorted(by_ngram),
            "not_judged": found.unjudged,
            "only_here": sorted(by_ngram - by_substring),
            "hits": [{"item": m.item, **items[m.item].named, "document": corpus.name(m.document), "ngram": m.ngram} for m in found.ngrams],
        },
        "unreadable": corpus.broken,
    }


if __name__ == "__main__":
    sys.exit(main())
