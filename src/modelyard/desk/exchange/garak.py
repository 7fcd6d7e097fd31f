"""garak's report (``*.report.jsonl``): every answer that one of its detectors holds for a hit, as a finding that an expert decides about.

An evaluated attempt has ``status`` 2, its ``detector_results`` a score from 0 to 1 for each output; from 0.5 on garak counts a hit. A probe's
module says which family its attack is of, as far as ours have it. Left out: attempts that no detector judged.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from modelyard.desk.exchange.foreign import Hit, rows, table, text
from modelyard.desk.red_team.findings import Marked
from modelyard.formats.feedback import json_lines

HIT = 0.5
EVALUATED = 2
FAMILIES = {
    "dan": "role_play",
    "goodside": "prefix_injection",
    "promptinject": "instruction_override",
    "latentinjection": "instruction_override",
    "encoding": "encoding",
    "smuggling": "encoding",
    "badchars": "encoding",
    "fitd": "multi_turn",
    "goat": "multi_turn",
    "atkgen": "multi_turn",
    "phrasing": "tense",
    "grandma": "fiction",
}
"""Module of a probe -> family; any other is ``other``."""


def hits(path: Path) -> Iterator[Hit]:
    """The hits of a report. Raises ValueError naming file and line."""
    for line in json_lines(path):
        if line.fields.get("entry_type") == "attempt" and line.fields.get("status") == EVALUATED:
            yield from _hits(line.fields, line.where)


def _hits(attempt: dict[str, Any], where: str) -> Iterator[Hit]:
    asked = _asked(attempt.get("prompt"), f"{where}: prompt")
    probe = str(attempt.get("probe_classname", ""))
    scored = table(attempt.get("detector_results", {}), f"{where}: detector_results")
    for place, output in enumerate(rows(attempt.get("outputs", []), f"{where}: outputs")):
        said = output.get("text") if isinstance(output, dict) else output
        found = [name for name, scores in scored.items() if _is_hit(rows(scores, f"{where}: {name}"), place, f"{where}: {name}")]
        if found and said:
            answer = {"role": "assistant", "content": text(said, f"{where}: outputs")}
            module = probe.rpartition("probes.")[2].split(".")[0]
            note = f"garak: {', '.join(found)}; {attempt.get('goal') or 'no goal named'}"
            yield Hit([*asked, answer], Marked(f"garak {probe}", FAMILIES.get(module, "other"), "other", 2, note))


def _is_hit(scores: Any, place: int, where: str) -> bool:
    score = scores[place] if place < len(scores) else None
    if score is not None and (isinstance(score, bool) or not isinstance(score, int | float)):
        raise ValueError(f"{where}: score {str(score)[:40]!r} is no number")
    return score is not None and score >= HIT


def _asked(prompt: Any, where: str) -> list[dict[str, str]]:
    """The conversation that was sent: a text, a message, or its turns."""
    if isinstance(prompt, dict) and "turns" in prompt:
        turns = [table(turn, where) for turn in rows(prompt["turns"], where)]
        return [{"role": text(turn.get("role"), where), "content": text(_text(turn.get("content")), where)} for turn in turns]
    return [{"role": "user", "content": text(_text(prompt), where)}]


def _text(value: Any) -> Any:
    return value.get("text") if isinstance(value, dict) else value
