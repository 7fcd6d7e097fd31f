"""Potato's files: items as JSON lines (``id``, ``prompt``, ``responses``) and ``annotated_instances.jsonl`` of each annotator.

Its ranking schema writes ``rank_order``, names of answers with commas between ranks and ``=`` between ties (``B,D=A,C``), its pairwise
schema ``selection`` (``A``, ``B`` or ``tie``). Answers are named A, B, C... by their place in ``responses``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from modelyard.desk.exchange.foreign import NEXT, TIE, Foreign, ForeignItem, ForeignRanking, groups, problem, rows, table, text
from modelyard.desk.work.agreement import whole
from modelyard.desk.work.answers import Ranking
from modelyard.desk.work.export import Label
from modelyard.formats.feedback import json_lines

ITEMS, ANNOTATIONS = "potato-items.jsonl", "annotated_instances.jsonl"
SCHEMA = "ranking"
LETTERS = "ABCDEFGHI"


def read(path: Path, items: Path) -> Foreign:
    """An annotator's file, or the folder of all annotators', over the items that they were shown. Raises ValueError naming file and line."""
    known = {item.id: item for item in _items(items)}
    found = Foreign(list(known.values()), [], [])
    files = sorted(path.glob(f"*/{ANNOTATIONS}")) if path.is_dir() else [path]
    if not files:
        raise ValueError(f"{path}: no {ANNOTATIONS} in any folder of it")
    for file in files:
        for line in json_lines(file):
            row = line.fields
            name = str(row.get("id", row.get("instance_id")))
            if name not in known:
                raise ValueError(f"{line.where}: id: {items} has no item {name!r}")
            rater = str(row.get("user_id") or row.get("user") or file.parent.name)
            said = table(row.get("label_annotations"), f"{line.where}: label_annotations")
            order = _order(said)
            reason = "no_ranking" if order is None else problem(known[name], order)
            if order is None or reason:
                found.dropped.append((line.where, reason))
            else:
                found.rankings.append(ForeignRanking(known[name], rater, order))
    return found


def write(labels: Sequence[Label], out: Path) -> int:
    """``potato-items.jsonl`` and a folder with ``annotated_instances.jsonl`` for each labeler; the number of items."""
    items: dict[int, dict[str, Any]] = {}
    said: dict[str, list[dict[str, Any]]] = {}
    for label in labels:
        ranking = label.said
        if not isinstance(ranking, Ranking) or label.assignment.state != "done":
            continue
        item, name = label.item, f"{label.batch.name}-{label.item.key}"
        items[item.id] = {"id": name, "prompt": json.loads(item.prompt), "responses": [one["text"] for one in item.samples]}
        order = NEXT.join(TIE.join(group) for group in groups(LETTERS[: len(item.samples)], whole(ranking)))
        row = {"id": name, "user_id": label.labeler.pseudonym, "label_annotations": {SCHEMA: {"rank_order": order}}}
        said.setdefault(label.labeler.pseudonym, []).append(row)
    _lines(out / ITEMS, list(items.values()))
    for labeler, mine in said.items():
        (out / "annotation_output" / labeler).mkdir(parents=True, exist_ok=True)
        _lines(out / "annotation_output" / labeler / ANNOTATIONS, mine)
    return len(items)


def _items(path: Path) -> Iterator[ForeignItem]:
    for line in json_lines(path):
        row = line.fields
        answers = row["responses"] if "responses" in row else [row.get("left"), row.get("right")]
        texts = [text(one, f"{line.where}: responses") for one in rows(answers, f"{line.where}: responses")]
        if not 2 <= len(texts) <= len(LETTERS):
            raise ValueError(f"{line.where}: responses: needs 2 to {len(LETTERS)}, got {len(texts)}")
        prompt = row.get("prompt", row.get("text", ""))
        yield ForeignItem(str(row.get("id")), prompt, dict(zip(LETTERS, texts, strict=False)))


def _order(said: Any) -> list[list[str]] | None:
    """The first ranking or choice among an instance's annotations; None without one."""
    for value in said.values():
        if isinstance(value, dict) and isinstance(value.get("rank_order"), str):
            return [[name.strip() for name in group.split(TIE)] for group in value["rank_order"].split(NEXT)]
        if isinstance(value, dict) and value.get("selection") in ("A", "B", "tie"):
            return {"A": [["A"], ["B"]], "B": [["B"], ["A"]], "tie": [["A", "B"]]}[value["selection"]]
    return None


def _lines(path: Path, found: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in found), "utf-8")
