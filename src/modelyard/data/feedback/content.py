"""What a line of feedback says: a prompt, its completions, their order.

A line of the right form that cannot be used is dropped with a reason, never silently: an answer that is empty, also one in the middle of a
conversation (``empty_completion``), an empty prompt (``empty_prompt``), a conversation that nobody answered (``unanswered``), one with tools
(``tool_calls``), with sound, or with images elsewhere than in a user's turn (``not_text``), with other images than places for them
(``images_without_place``) or with turns of other weights (``turn_weight``), answers to different prompts (``different_prompts``), answers that repeat
the prompt, also as a transcript (``prompt_repeated``; a short greeting may be answered by one), that all tie (``tie``), of which one text has two
ranks (``text_at_two_ranks``), without marks (``no_score``), alone (``one_completion``) or marked against their order (``scores_against_order``).
Images stand in it by what the file calls them; :mod:`modelyard.data.feedback.file_images` reads them. A form that means nothing is a ValueError that
begins with the key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from modelyard.data.feedback import rows
from modelyard.data.feedback.rows import TOOL, Flags, Instructions, Messages, Pair, Prompts, Ranked, Row, Scored, Side, Transcripts, Turn
from modelyard.formats.feedback import ImagePart, Message, Part, Prompt, TextPart, content_text, is_text
from modelyard.printable import is_blank

MARK = "<image>"
"""Where an image stands in a turn, as LLaVA writes it."""
_TURN = re.compile(r"\n\n(Human|Assistant):[ \t]*")


class UselessError(Exception):
    """A line of the right form that cannot be used; the argument is the reason."""


class Content(NamedTuple):
    """What a line says."""

    prompt: Prompt
    completions: tuple[str, ...]
    """None of a prompt, one of a demonstration or a thumb, one of a flag and its correction, K of a comparison."""
    ranks: tuple[int, ...] = ()
    scores: tuple[float, ...] | None = None
    beside: bool = True
    """Whether the prompt stands beside the completions rather than in one conversation with them."""


def content(row: Row) -> Content:
    """What the row says, as its file has it. Raises UselessError, and ValueError starting with the key at fault."""
    if row.tools or row.functions:
        raise UselessError("tool_calls")
    match row:
        case Prompts():
            return Content(_asked(row.prompt), ())
        case Flags():
            found = _demonstration(row)
            return found if is_blank(row.correction) else found._replace(completions=(*found.completions, row.correction))
        case Messages():
            return _demonstration(row)
        case Instructions():
            shown = row.shown
            asked = f"{row.instruction}\n\n{shown.input}" if shown.input.strip() else row.instruction
            return Content(asked, (shown.output.strip(),))
        case Ranked():
            prompt, said = _answers(row.prompt, {f"completions.{i}": side for i, side in enumerate(row.completions)})
            return distinct(Content(prompt, said, row.ranks, row.scores))
        case Scored():
            return _scored(row)
        case Transcripts():
            found = _pair(None, _transcript(row.chosen, "chosen"), _transcript(row.rejected, "rejected"), None)
            return found._replace(beside=False)
        case Pair():
            scores = None if row.score_chosen is None or row.score_rejected is None else (row.score_chosen, row.score_rejected)
            return _pair(row.prompt, row.chosen, row.rejected, scores)
    raise AssertionError(f"no content of {type(row).__name__}")


def _demonstration(row: Messages) -> Content:
    if row.messages is not None:
        context, said = _last_turn(_messages(row.messages), "messages")
        return Content(context, (said,), beside=False)
    assert row.prompt is not None
    assert row.completion is not None
    prompt, said_once = _answers(row.prompt, {"completion": row.completion})
    return Content(prompt, said_once)


def _scored(row: Scored) -> Content:
    scores = [one.score for one in row.completions]
    if len(scores) < 2:
        raise UselessError("one_completion")
    known = tuple(score for score in scores if score is not None)
    if len(known) < len(scores):
        raise UselessError("no_score")
    prompt, said = _answers(row.prompt, {f"completions.{i}.text": one.text for i, one in enumerate(row.completions)})
    order = sorted(set(known), reverse=True)
    return distinct(Content(prompt, said, tuple(1 + order.index(score) for score in known), known))


def _pair(
    prompt: rows.Prompt | None, chosen: Side | tuple[Message, ...], rejected: Side | tuple[Message, ...], scores: tuple[float, float] | None
) -> Content:
    if scores and scores[0] < scores[1]:
        raise UselessError("scores_against_order")
    asked, said = _answers(prompt, {"chosen": chosen, "rejected": rejected})
    tied = said[0].strip() == said[1].strip() or bool(scores and scores[0] == scores[1])
    return Content(asked, said, (1, 1) if tied else (1, 2), scores)


def _answers(prompt: rows.Prompt | None, sides: dict[str, Side | tuple[Message, ...]]) -> tuple[Prompt, tuple[str, ...]]:
    """Prompt and answers. An answer is text, one message, or a conversation that begins with the prompt, or with that of the others where
    the line has none of its own.
    """
    asked = None if prompt is None else _asked(prompt)
    contexts: list[tuple[Message, ...]] = []
    said: list[str] = []
    for key, side in sides.items():
        spoken = side if isinstance(side, str) else _messages((side,) if isinstance(side, Turn) else side)
        if isinstance(spoken, str):
            if asked is None:
                raise ValueError(f"prompt: needed where {' and '.join(sides)} are strings")
            said.append(spoken)
            continue
        if asked is not None and len(spoken) == 1 and spoken[0].role == "assistant":
            said.append(content_text(spoken[0].content))
            continue
        context, answer = _last_turn(spoken, key)
        if asked is not None and not _begins(context, asked):
            raise ValueError(f"{key}: a conversation that does not begin with the prompt")
        contexts.append(context)
        said.append(answer)
    if len(set(contexts)) > 1:
        raise UselessError("different_prompts")
    known = [*contexts[:1], *([asked] if asked is not None and not is_text(asked) else [])]
    if known:
        return max(known, key=len), tuple(said)  # one of both may have a system message
    assert asked is not None
    return asked, tuple(said)


def _begins(context: tuple[Message, ...], asked: Prompt) -> bool:
    """Whether the turns before an answer are the prompt, a system message apart."""
    spoken = [(one.role, _bare(one.content)) for one in context if one.role != "system"]
    if is_text(asked):
        return spoken == [("user", _bare(asked))]
    return spoken == [(one.role, _bare(one.content)) for one in asked if one.role != "system"]


def _bare(content: str | tuple[Part, ...]) -> object:
    return content.strip() if isinstance(content, str) else content


def distinct(found: Content) -> Content:
    """The comparison with each text once. Raises UselessError where one text has two ranks."""
    places: dict[str, int] = {}
    for number, text in enumerate(found.completions):
        first = places.setdefault(text.strip(), number)
        if found.ranks[first] != found.ranks[number]:
            raise UselessError("text_at_two_ranks")
    kept = sorted(places.values())
    if len(kept) < 2:
        raise UselessError("tie")
    scores = tuple(found.scores[i] for i in kept) if found.scores else None
    return Content(found.prompt, tuple(found.completions[i] for i in kept), tuple(found.ranks[i] for i in kept), scores)


def _asked(prompt: rows.Prompt) -> Prompt:
    return prompt if isinstance(prompt, str) else _messages(prompt)


def _messages(turns: Sequence[Turn | Message]) -> tuple[Message, ...]:
    """The turns as a record holds them. Raises UselessError for what is no text, or nothing."""
    if not turns:
        raise UselessError("empty_prompt")
    return tuple(turn if isinstance(turn, Message) else _message(turn) for turn in turns)


def _message(turn: Turn) -> Message:
    if turn.role == TOOL or turn.tool_calls or turn.function_call:
        raise UselessError("tool_calls")
    if turn.weight not in (None, 1):
        raise UselessError("turn_weight")
    if isinstance(turn.content, tuple):
        if any(part.image is not None for part in turn.content):
            return _pictured(turn.role, turn.content)
        if any(part.text is None for part in turn.content):
            raise UselessError("not_text")
        text = "".join(part.text or "" for part in turn.content)
    else:
        text = turn.content or ""
    return Message.model_validate({"role": turn.role, "content": text})


def _pictured(role: str, parts: Sequence[rows.Part]) -> Message:
    """A user's turn with images."""
    if role != "user" or any(part.text is None and part.image is None for part in parts):
        raise UselessError("not_text")
    content = tuple(TextPart(text=part.text or "") if part.image is None else ImagePart(image=part.image) for part in parts)
    return Message(role="user", content=content)


def with_marked(prompt: Prompt, row: Row) -> Prompt:
    """The conversation with the line's own images where its users say ``<image>``. Raises UselessError where the numbers differ."""
    images = [row.image] if row.image is not None else [one if isinstance(one, str) else one.path for one in row.images]
    if not images:
        return prompt
    marks = 0 if is_text(prompt) else sum(content_text(one.content).count(MARK) for one in prompt if one.role == "user")
    if is_text(prompt) or marks != len(images):
        raise UselessError("images_without_place")
    left = iter(images)
    return tuple(one if one.role != "user" or not isinstance(one.content, str) else _marked(one.content, left) for one in prompt)


def _marked(text: str, images: Iterator[str]) -> Message:
    """A user's turn with the next images in the place of its marks."""
    before, *others = text.split(MARK)
    if not others:
        return Message(role="user", content=text)
    pieces = [TextPart(text=before), *(part for other in others for part in (ImagePart(image=next(images)), TextPart(text=other)))]
    return Message(role="user", content=tuple(part for part in pieces if isinstance(part, ImagePart) or part.text))


def _last_turn(messages: tuple[Message, ...], key: str) -> tuple[tuple[Message, ...], str]:
    if messages[-1].role != "assistant":
        raise UselessError("unanswered")
    if len(messages) < 2:
        raise ValueError(f"{key}: an assistant's turn that answers nothing")
    return messages[:-1], content_text(messages[-1].content)


def _transcript(text: str, key: str) -> tuple[Message, ...]:
    """``\\n\\nHuman: ...\\n\\nAssistant: ...`` as messages."""
    parts = _TURN.split(text)
    if parts[0].strip() or len(parts) < 3:
        raise ValueError(f"{key}: no transcript of Human: and Assistant: turns")
    roles: dict[str, Literal["user", "assistant"]] = {"Human": "user", "Assistant": "assistant"}
    return tuple(Message(role=roles[who], content=said.strip()) for who, said in zip(parts[1::2], parts[2::2], strict=True))
