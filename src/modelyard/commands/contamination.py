"""``modelyard contamination``: contamination of any benchmark by any corpus.

The procedure is :mod:`modelyard.data.contamination.overlap`'s: GPT-4's rule as written, to be reported, and by content,
which is what ``--remove`` goes by. An item of fewer than 50 letters and digits is searched as a whole; a document
that holds nothing but such items that chance explains is removed with ``--remove-short`` alone.
"""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from modelyard.commands.command import say
from modelyard.commands.numbers import at_least, between
from modelyard.commands.outputs import json_option, require_directory, write

if TYPE_CHECKING:
    from modelyard.data.contamination.overlap import Found, Overlap
    from modelyard.data.sources.any_corpus import AnyCorpus

_LENGTH = 50
"""Characters of a substring, GPT-4's."""
LONGEST = 1 << 26
"""Bytes of an item; a longer one is unreadable."""
BENCHMARK = typer.Option(help="JSON lines or Parquet (.gz, .zst allowed), one item a row.")
TEXT_FIELD = typer.Option(help="Field of an item that holds its question and context.")
CORPUS = typer.Option(metavar="PATH...", help="Files or directories of training text.")
CORPUS_FIELD = typer.Option(help="Field of a training document that holds its text; without it, all strings.")
REMOVE = typer.Option(metavar="DIR", help="Also write the corpus to DIR without the documents that hold an item by content.")
SHORT = typer.Option(
    "--remove-short", help=f"Remove also what holds an item of fewer than {_LENGTH} letters and digits that chance explains."
)
BROKEN = typer.Option(help="Share of the corpus' rows that may be unreadable.", callback=between(0, 1))


def contamination(
    benchmark: Annotated[Path, BENCHMARK],
    text_field: Annotated[str, TEXT_FIELD],
    corpus: Annotated[list[Path], CORPUS],
    json: Annotated[Path, json_option("Where the report goes.")],
    corpus_field: Annotated[str, CORPUS_FIELD] = "text",
    max_broken: Annotated[float, BROKEN] = 0.01,
    seed: Annotated[int, typer.Option(help="Of the draws.", callback=at_least(0))] = 0,
    remove: Annotated[Path | None, REMOVE] = None,
    remove_short: Annotated[bool, SHORT] = False,
) -> None:
    """Check a benchmark against training text by GPT-4's procedure. Exit code 0 whatever was found."""
    from modelyard.data.contamination.overlap import ContaminationConfig, check
    from modelyard.data.sources.any_corpus import AnyCorpus

    if remove:
        require_directory(remove)
    items = _items(benchmark, text_field)
    documents = AnyCorpus(corpus, corpus_field, max_broken)
    _require_apart(documents, benchmark, json, remove)
    config = ContaminationConfig(seed=seed, substrings=3, length=_LENGTH, ngram=13)
    [found] = check([[item.text for item in items]], documents.texts(), config)
    if not len(documents):
        raise ValueError(f"corpus {' '.join(map(str, corpus))}: no documents")
    result = _result(items, found, documents)
    if remove:
        removed = found.documents if remove_short else found.content.documents
        result["removed"] = {
            "documents": sorted(map(documents.name, removed)),
            "directory": str(remove),
            "left": documents.write_without(removed, remove),
            "kept_short": len(found.documents) - len(removed),
        }
    write(json, json_format.dumps(result, indent=1, ensure_ascii=False) + "\n")
    say(f"{_sentence(result)}; report: {json}")


def _sentence(result: dict[str, Any]) -> str:
    """What was found, in one line."""
    by_content = len(result["content"]["contaminated"])
    said = [f"{len(result['contaminated'])} of {result['n']} items contaminated as written, {by_content} by content"]
    said.append(f"{result['documents_hit']} of {result['documents']} documents hold a match")
    if removed := result.get("removed"):
        said.append(f"{removed['left']} left in {removed['directory']}")
        if removed["kept_short"]:
            said[-1] += f", {removed['kept_short']} of them with short items only that chance explains (--remove-short)"
    if result["left_out"]:
        said.append(f"{len(result['left_out'])} files that are no data left out")
    if result["unreadable"]:
        said.append(f"{len(result['unreadable'])} unreadable rows")
    return "; ".join(said)


def _require_apart(corpus: AnyCorpus, benchmark: Path, report: Path, remove: Path | None) -> None:
    """Raise ValueError, before anything is searched, when an output would be written over an input or over another output."""
    targets = corpus.targets(remove) if remove else []
    corpus.require_apart([report])
    for output in [report, *targets]:
        if output.exists() and output.samefile(benchmark):
            raise ValueError(f"{output}: would overwrite the benchmark")
    if report.resolve() in {target.resolve() for target in targets}:
        raise ValueError(f"{report}: both the report and a file of the corpus would be written there")


class _Item(NamedTuple):
    """An item of a benchmark."""

    text: str
    named: dict[str, Any]
    """``id``: its own, where its row has one."""


def _items(path: Path, field: str) -> list[_Item]:
    from modelyard.data.sources.record import Tally, TextField
    from modelyard.data.sources.record_files import form_of, read

    if not path.is_file():
        raise ValueError(f"benchmark {path}: no such file")
    form = form_of(path.name)
    tally = Tally(f"benchmark {path}", 0.0)
    rows = tally.take(read(path, "jsonl" if form == "file" else form, TextField(field), LONGEST))
    items = [_Item(record.text, _own_id(record.row)) for record in rows]
    tally.check()
    if not items:
        raise ValueError(f"benchmark {path}: no items")
    return items


def _own_id(row: dict[str, Any]) -> dict[str, Any]:
    value = next((row[key] for key in ("id", "task_id") if row.get(key) is not None), None)
    return {} if value is None else {"id": value if isinstance(value, str | int) else str(value)}


def _result(items: list[_Item], found: Overlap, corpus: AnyCorpus) -> dict[str, Any]:
    by_substring, by_ngram = {match.item for match in found.written.matches}, {match.item for match in found.ngrams}
    return {
        "n": len(items),
        "short": found.short,
        "not_judged": found.empty,
        "documents": len(corpus),
        **_figure(items, found.written, corpus),
        "documents_hit": len(found.documents),
        "content": {
            "method": "folded (HTML entities, NFKC, case); short items by evidence",
            **_figure(items, found.content, corpus),
            "only_here": sorted({match.item for match in found.content.matches} - by_substring),
            "documents_hit": len(found.content.documents),
        },
        "second_opinion": {
            "method": "13-grams of lower-case words (GPT-3)",
            "contaminated": sorted(by_ngram),
            "not_judged": found.unjudged,
            "only_here": sorted(by_ngram - by_substring),
            "hits": [{"item": m.item, **items[m.item].named, "document": corpus.name(m.document), "ngram": m.ngram} for m in found.ngrams],
        },
        "left_out": corpus.left_out,
        "unreadable": corpus.broken,
    }


def _figure(items: list[_Item], found: Found, corpus: AnyCorpus) -> dict[str, Any]:
    hits = [{"item": m.item, **items[m.item].named, "document": corpus.name(m.document), "substring": m.substring} for m in found.matches]
    return {"contaminated": sorted(match.item for match in found.matches), "share": len(hits) / max(1, len(items)), "hits": hits}
