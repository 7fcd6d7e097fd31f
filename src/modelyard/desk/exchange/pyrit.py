"""PyRIT's conversations (JSON of its memory's message pieces with their scores): every answer that a scorer holds for harm, as a finding
that an expert decides about.

A list of pieces, as ``export_conversations`` of PyRIT 0.11 to 0.14 writes it and as later versions' ``model_dump`` gives it, each with its
``scores``. Pieces of one ``conversation_id`` are a conversation, in the order of ``sequence``, and it is kept with all its turns up to the
answer; what the target saw is ``converted_value``. A ``true_false`` score that is true and a ``float_scale`` one from 0.5 on is a hit,
but for scorers of refusals, whose true means the opposite. Converters, the attack's class and the number of turns say which family it is
of, as far as ours have it. Left out: images and sounds, and the conversations of a model that attacks, which nobody scores.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from modelyard.desk.exchange.foreign import Hit, rows, table, text
from modelyard.desk.red_team.families import CATEGORIES
from modelyard.desk.red_team.findings import Marked
from modelyard.formats import json_file

HIT = 0.5
ROLES = {"system": "system", "user": "user", "assistant": "assistant", "simulated_assistant": "assistant"}
"""PyRIT's role -> ours; a conversation with any other is dropped."""
ATTACKS = {
    "crescendo": "multi_turn", "redteaming": "multi_turn", "treeofattacks": "multi_turn", "pair": "multi_turn", "multiturn": "multi_turn",
    "manyshot": "many_shot", "roleplay": "role_play", "skeletonkey": "instruction_override", "flip": "encoding",
}  # fmt: skip
"""Beginning of an attack's class -> family."""
CONVERTERS = {
    "tense": "tense", "translation": "tense", "randomtranslation": "tense", "persuasion": "fiction", "taskframing": "fiction",
    "textjailbreak": "role_play", "policypuppetry": "instruction_override", "suffixappend": "prefix_injection",
}  # fmt: skip
"""Beginning of a converter's class -> family; any other converter spells the text in another way."""


class Answer(NamedTuple):
    """An answer of a conversation, with what was said before it."""

    messages: list[dict[str, str]]
    scores: Sequence[Mapping[str, Any]]
    first: Mapping[str, Any]
    """The first piece of the message that it answers."""


def hits(path: Path) -> tuple[list[Hit], list[str]]:
    """The hits of an export, and a reason for each conversation that was dropped. Raises ValueError naming the file and the piece."""
    talks: dict[str, list[tuple[str, Mapping[str, Any]]]] = {}
    for number, value in enumerate(rows(json_file.load(path), str(path))):
        where = f"{path}: piece {number}"
        piece = table(value, where)
        talks.setdefault(text(piece.get("conversation_id"), f"{where}: conversation_id"), []).append((where, piece))
    found, dropped = list[Hit](), list[str]()
    for pieces in talks.values():
        if reason := _unusable(pieces):
            dropped.append(reason)
        else:
            found += [hit for answer in _answers(pieces) for hit in _hit(answer)]
    return found, dropped


def _unusable(pieces: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """Why a conversation cannot be repeated as text; "" where it can."""
    for where, piece in pieces:
        if text(piece.get("role"), f"{where}: role") not in ROLES:
            return "role_of_a_tool"
        if piece.get("converted_value_data_type", "text") not in ("text", "error"):
            return "not_text"
    return ""


def _answers(pieces: Sequence[tuple[str, Mapping[str, Any]]]) -> Iterator[Answer]:
    """Every answer of a conversation; pieces of one sequence are one message."""
    turns: dict[int, list[tuple[str, Mapping[str, Any]]]] = {}
    for where, piece in pieces:
        turns.setdefault(_whole(piece.get("sequence"), f"{where}: sequence"), []).append((where, piece))
    messages: list[dict[str, str]] = []
    asked: Mapping[str, Any] = {}
    for _, turn in sorted(turns.items()):
        said = "\n".join(text(piece.get("converted_value"), f"{where}: converted_value") for where, piece in turn)
        messages.append({"role": ROLES[turn[0][1]["role"]], "content": said})
        if messages[-1]["role"] != "assistant":
            asked = turn[0][1]
        elif len(messages) > 1 and said:
            scores = [
                table(score, f"{where}: scores") for where, piece in turn for score in rows(piece.get("scores") or [], f"{where}: scores")
            ]
            yield Answer(list(messages), [score for score in scores if _is_hit(score, turn[0][0])], asked)


def _hit(answer: Answer) -> Iterator[Hit]:
    if not answer.scores:
        return
    names = list(dict.fromkeys(_class(score.get("scorer_class_identifier")) for score in answer.scores))
    reasons = [str(score[key]) for score in answer.scores for key in ("score_rationale", "objective") if score.get(key)]
    category = next((mine for score in answer.scores if (mine := _category(score.get("score_category")))), "other")
    title = f"PyRIT {_class(answer.first.get('attack_identifier')) or 'conversation'}"
    note = f"PyRIT: {', '.join(names)}; {'; '.join(reasons) or 'no reason given'}"
    yield Hit(answer.messages, Marked(title, _family(answer), category, 2, note))


def _is_hit(score: Mapping[str, Any], where: str) -> bool:
    value, kind = str(score.get("score_value", "")).casefold(), score.get("score_type")
    if "refusal" in _class(score.get("scorer_class_identifier")).casefold():
        return False
    if kind == "true_false":
        return value == "true"
    if kind == "float_scale":
        try:
            return float(value) >= HIT
        except ValueError:
            raise ValueError(f"{where}: scores: score_value {value[:40]!r} is no number") from None
    return False


def _family(answer: Answer) -> str:
    attack = _class(answer.first.get("attack_identifier")).casefold()
    if known := [family for name, family in ATTACKS.items() if attack.startswith(name)]:
        return known[0]
    if sum(message["role"] == "user" for message in answer.messages) > 1:
        return "multi_turn"
    converters = [_class(one).casefold() for one in answer.first.get("converter_identifiers") or [] if isinstance(one, dict)]
    spelled = [next((family for name, family in CONVERTERS.items() if one.startswith(name)), "encoding") for one in converters]
    return spelled[-1] if spelled else "other"


def _category(named: Any) -> str:
    """The first of our categories that PyRIT's name for the harm begins with; "" for none."""
    for one in named if isinstance(named, list) else [named]:
        plain = str(one or "").casefold().replace("-", "_").replace(" ", "_")
        if found := [mine for mine in CATEGORIES if plain.startswith(mine)]:
            return found[0]
    return ""


def _class(identifier: Any) -> str:
    """The class that an identifier names, in the words of newer or of older versions."""
    if not isinstance(identifier, dict):
        return ""
    return str(identifier.get("class_name") or identifier.get("__type__") or "")


def _whole(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{where}: expected a whole number")
    return value
