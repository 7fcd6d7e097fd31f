"""Label Studio's JSON: tasks with ``data`` (``prompt`` and ``items`` of id, title and body, or ``text1`` and ``text2``) and annotations of
its Ranker or Pairwise tags.

A Ranker without buckets gives an order, one with buckets gives groups: answers in one bucket tie, which is how ties are written here
(buckets ``rank_1``, ``rank_2``, ...). What was not put into a bucket is in ``_``. An annotation that was cancelled is a skip.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modelyard.desk.exchange.foreign import Foreign, ForeignItem, ForeignRanking, groups, problem, rows, table, text
from modelyard.desk.work.agreement import whole
from modelyard.desk.work.answers import Ranking
from modelyard.desk.work.export import Label
from modelyard.formats import json_file

FILE = "label-studio.json"
UNSORTED = "_"
SIDES = ("text1", "text2")


def read(path: Path) -> Foreign:
    """A project's export as JSON. Raises ValueError naming file and task."""
    found = Foreign([], [], [])
    for number, raw in enumerate(rows(json_file.load(path), str(path)), 1):
        where = f"{path}: task {number}"
        task = table(raw, where)
        item = _item(task, where)
        found.items.append(item)
        for annotation in rows(task.get("annotations", []), f"{where}: annotations"):
            _annotation(found, item, table(annotation, f"{where}: annotations"), where)
    return found


def write(labels: Sequence[Label], path: Path) -> int:
    """Tasks of rankings with their annotations; the number of tasks."""
    tasks: dict[int, dict[str, Any]] = {}
    for label in labels:
        said = label.said
        if not isinstance(said, Ranking) or label.assignment.state != "done":
            continue
        task = tasks.setdefault(label.item.id, _task(label))
        names = [one["id"] for one in task["data"]["items"]]
        buckets = {f"rank_{place}": group for place, group in enumerate(groups(names, whole(said)), 1)}
        result = {"from_name": "rank", "to_name": "answers", "type": "ranker", "value": {"ranker": buckets}}
        annotation = {"completed_by": label.labeler.pseudonym, "lead_time": round(label.assignment.seconds, 1), "was_cancelled": False}
        task["annotations"].append({**annotation, "result": [result]})
    path.write_text(json.dumps(list(tasks.values()), ensure_ascii=False, indent=1) + "\n", "utf-8")
    return len(tasks)


def _task(label: Label) -> dict[str, Any]:
    item = label.item
    shown = [{"id": f"answer_{place}", "title": f"Answer {place}", "body": one["text"]} for place, one in enumerate(item.samples, 1)]
    return {"id": item.id, "data": {"key": item.key, "prompt": json.loads(item.prompt), "items": shown}, "annotations": []}


def _item(task: Any, where: str) -> ForeignItem:
    data = table(task.get("data"), f"{where}: data")
    prompt = data.get("prompt", "")
    if not isinstance(prompt, str):
        rows(prompt, f"{where}: data.prompt")
    name = str(data.get("key") or task.get("id") or where.rsplit(" ", 1)[-1])
    if "items" in data:
        listed = [table(one, f"{where}: data.items") for one in rows(data["items"], f"{where}: data.items")]
        answers = {str(one.get("id")): text(one.get("body"), f"{where}: data.items: body") for one in listed}
        if len(answers) < len(listed):
            raise ValueError(f"{where}: data.items: two have one id")
    else:
        answers = {side: text(data.get(side), f"{where}: data.{side}") for side in SIDES}
    return ForeignItem(name, prompt, answers)


def _annotation(found: Foreign, item: ForeignItem, annotation: Any, where: str) -> None:
    by = annotation.get("completed_by")
    rater = str(by.get("email") or by.get("id")) if isinstance(by, dict) else str(by)
    if annotation.get("was_cancelled"):
        found.dropped.append((where, "skipped"))
        return
    for raw in rows(annotation.get("result", []), f"{where}: result"):
        result = table(raw, f"{where}: result")
        order = _order(result, table(result.get("value"), f"{where}: value"), where)
        if order is None:
            continue
        if reason := problem(item, order):
            found.dropped.append((where, reason))
        else:
            found.rankings.append(ForeignRanking(item, rater, order))
        return
    found.dropped.append((where, "no_ranking"))


def _order(result: Any, value: Any, where: str) -> list[list[str]] | None:
    """Groups of answers, the best first; None of another tag's result."""
    if result.get("type") == "ranker":
        said = value.get("ranker")
        if isinstance(said, dict):
            return [[str(name) for name in rows(said[bucket], where)] for bucket in said if bucket != UNSORTED and said[bucket]]
        return [[str(name)] for name in rows(said, f"{where}: ranker")]
    if result.get("type") == "pairwise":
        better = {"left": 0, "right": 1}.get(str(value.get("selected")))
        return [[*SIDES]] if better is None else [[SIDES[better]], [SIDES[1 - better]]]
    return None
