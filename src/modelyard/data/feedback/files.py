"""A user's own human feedback: JSON lines in the shapes that are in use, each read into one kind of record.

- ``messages``: demonstrations, ``{"messages": [...]}`` (chat) or ``{"prompt": ..., "completion": ...}``
- ``instructions``: demonstrations, ``{"instruction": ..., "input": ..., "output": ...}``, or ``instances`` of input and output; the first counts
- ``pairs``: ``{"prompt": ..., "chosen": ..., "rejected": ...}``; without a prompt, what the two conversations share is it
- ``transcripts``: pairs as text with ``Human:`` and ``Assistant:`` turns (Bai et al. 2022)
- ``ranked``: ``{"prompt": ..., "completions": [...], "ranks": [1, 2, 2]}`` with 2 to 9 completions, 1 the best, ties equal
- ``prompts``: ``{"prompt": ..., "category": ..., "source": ..., "consent": true, "user": ...}``

A prompt is a string (text to be continued; a user's turn with ``chat = true``) or a list of messages. ``id``, ``category``, ``user`` and ``rater``
may stand in every shape; other keys are passed over and counted. One bad line ends the reading with ``file:line: key: what is wrong``; a line of
the right form that says nothing (an empty answer, a comparison that ties throughout) is dropped with a reason.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from pydantic import Field, model_validator

from modelyard.config import Config
from modelyard.data.corpus.document import DataError
from modelyard.data.feedback.rows import ROWS, Instance, Instructions, Messages, Pair, Prompts, Ranked, Row, Shape, Transcripts
from modelyard.formats.feedback import FeedbackError, Message, Prompt, PromptSource, check_ranks, json_lines, record
from modelyard.formats.json_file import Line
from modelyard.store.file_hash import require_sha256
from modelyard.store.inputs import find_input

_TURN = re.compile(r"\n\n(Human|Assistant):[ \t]*")


class FeedbackFile(Config):
    """One file of a user's own."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")
    """Source name in records and errors."""
    path: str
    """The file, plain or ``.gz``; a relative path starts beside the config, else at ``execution.inputs``."""
    sha256: str
    """Hash of the file: another file is other feedback."""
    licence: str
    """Its licence."""
    shape: Shape
    """What its lines are."""
    source: PromptSource = "labeler_plain"
    """Where its prompts come from, where a line does not say."""
    category: str = ""
    """Category of its prompts, where a line does not say."""
    category_with_input: str = ""
    """Shape ``instructions``: category of those that bring an input, such as ``closed_domain`` where the input holds all that an answer
    may say; absent: ``category``."""
    also_prompts: bool = False
    """Whether what its demonstrations or comparisons answer are also prompts to sample from."""
    chat: bool = False
    """Whether a prompt given as a string is a user's turn rather than text to be continued."""
    system: str = ""
    """System message put before every conversation that has none."""
    split_by: Literal["item", "user"] = "item"
    """What stays together on one side of a split: everything about one prompt, or everything of one user (who must then be named)."""
    limit: int | None = Field(default=None, ge=1)
    """Most lines that are read, from the top; absent: all."""

    @model_validator(mode="after")
    def _fits(self) -> FeedbackFile:
        if self.category_with_input and self.shape != "instructions":
            raise ValueError(f"category_with_input: is of shape 'instructions', not of {self.shape!r}")
        return self


class Entry(NamedTuple):
    """One line as read: a record in the making."""

    id: str
    where: str
    group: str
    """The user, or "" where the prompt decides."""
    category: str
    rater: str
    source: PromptSource
    consent: bool
    prompt: Prompt
    completions: tuple[str, ...]
    """None of a prompt, one of a demonstration, K of a comparison."""
    ranks: tuple[int, ...]
    scores: tuple[float, ...] | None
    answer: str | None
    """Of a prompt whose completions are verified."""


class Read(NamedTuple):
    """A file's lines."""

    entries: list[Entry]
    ignored: dict[str, int]
    """Key that no record has -> lines that carry it."""
    dropped: list[tuple[str, str]]
    """(``file:line``, reason) of well-formed lines that say nothing."""


class _UselessError(Exception):
    """A line of the right form that says nothing; the argument is the reason."""


def read(file: FeedbackFile, roots: str | Sequence[str]) -> Read:
    """Every line of the file. Raises DataError: no such file, another file than declared, or a bad line."""
    try:
        path = find_input(file.path, roots, f"feedback file {file.name}")
        require_sha256(path, file.sha256, f"feedback file {file.name}")
    except ValueError as error:
        raise DataError(str(error)) from None
    entries: list[Entry] = []
    dropped: list[tuple[str, str]] = []
    ignored: Counter[str] = Counter()
    try:
        for number, line in enumerate(json_lines(path)):
            if number == file.limit:
                break
            row = record(ROWS[file.shape], line)
            ignored.update(line.fields.keys() - type(row).model_fields.keys())
            try:
                entries.append(_entry(file, row, line, number))
            except _UselessError as reason:
                dropped.append((line.where, str(reason)))
    except FeedbackError as error:
        raise DataError(str(error)) from None
    if not entries:
        raise DataError(f"feedback file {file.name}: {path}: no line of it can be used")
    return Read(entries, dict(ignored), dropped)


def _entry(file: FeedbackFile, row: Row, line: Line, number: int) -> Entry:
    try:
        prompt, completions, ranks, scores = _content(file, row)
        if file.split_by == "user" and row.user is None:
            raise ValueError("user: needed, since the file is split by user")
        if not all(completion.strip() for completion in completions):
            raise _UselessError("empty_completion")
        if ranks and len(set(ranks)) == 1:
            raise _UselessError("tie")
        if ranks:
            check_ranks(completions, ranks)
    except ValueError as error:
        raise FeedbackError(f"{line.where}: {error}") from None
    return Entry(
        id=f"{file.name}-{number if row.id is None else row.id}",
        where=line.where,
        group=str(row.user) if row.user is not None else "",
        category=row.category or _category(file, row),
        rater="" if row.rater is None else str(row.rater),
        source=row.source if isinstance(row, Prompts) and row.source else file.source,
        consent=row.consent,
        prompt=prompt,
        completions=completions,
        ranks=ranks,
        scores=scores,
        answer=row.answer if isinstance(row, Prompts) else None,
    )


def _category(file: FeedbackFile, row: Row) -> str:
    """The file's category of a line that does not say one."""
    brings_input = isinstance(row, Instructions) and bool(_instance(row).input.strip())
    return file.category_with_input or file.category if brings_input else file.category


def _instance(row: Instructions) -> Instance:
    """The input and output that count: the line's own, else its first instance."""
    return row.instances[0] if row.output is None else Instance(input=row.input, output=row.output)


_Content = tuple[Prompt, tuple[str, ...], tuple[int, ...], tuple[float, ...] | None]


def _content(file: FeedbackFile, row: Row) -> _Content:
    """Prompt, completions, ranks and scores of a row; ValueError starting with the key at fault."""
    if isinstance(row, Prompts):
        return _prompt(file, row.prompt), (), (), None
    if isinstance(row, Messages):
        if row.messages is not None:
            context, said = _last_turn(row.messages, "messages")
            return _prompt(file, context), (said,), (), None
        assert row.prompt is not None
        assert row.completion is not None
        return _prompt(file, row.prompt), (_answer(row.completion, "completion"),), (), None
    if isinstance(row, Instructions):
        shown = _instance(row)
        return (
            _prompt(file, f"{row.instruction}\n\n{shown.input}" if shown.input.strip() else row.instruction),
            (shown.output.strip(),),
            (),
            None,
        )
    if isinstance(row, Ranked):
        answers = tuple(_answer(one, f"completions.{i}") for i, one in enumerate(row.completions))
        if len(row.ranks) != len(answers):
            raise ValueError(f"ranks: {len(row.ranks)} for {len(answers)} completions")
        if row.scores is not None and len(row.scores) != len(answers):
            raise ValueError(f"scores: {len(row.scores)} for {len(answers)} completions")
        return _prompt(file, row.prompt), answers, row.ranks, row.scores
    if isinstance(row, Transcripts):
        row = Pair(chosen=_turns(row.chosen, "chosen"), rejected=_turns(row.rejected, "rejected"))
    assert isinstance(row, Pair)
    if row.prompt is None:
        if isinstance(row.chosen, str) or isinstance(row.rejected, str):
            raise ValueError("prompt: needed where chosen and rejected are strings")
        contexts = [_last_turn(side, key) for side, key in ((row.chosen, "chosen"), (row.rejected, "rejected"))]
        if contexts[0][0] != contexts[1][0]:
            raise _UselessError("different_prompts")
        chosen, rejected = contexts[0][1], contexts[1][1]
        return _prompt(file, contexts[0][0]), (chosen, rejected), (1, 1) if chosen == rejected else (1, 2), None
    answers = _answer(row.chosen, "chosen"), _answer(row.rejected, "rejected")
    return _prompt(file, row.prompt), answers, (1, 1) if answers[0] == answers[1] else (1, 2), None


def _prompt(file: FeedbackFile, prompt: Prompt) -> Prompt:
    """The prompt as a record holds it: a string in a chat file is a user's turn, and the file's system message comes first."""
    if isinstance(prompt, str):
        if not file.chat:
            return prompt
        if not prompt.strip():
            raise _UselessError("empty_prompt")
        prompt = (Message(role="user", content=prompt),)
    if prompt[-1].role != "user":
        raise ValueError(f"prompt: ends with the {prompt[-1].role}'s turn, not with the user's")
    if file.system and prompt[0].role != "system":
        prompt = (Message(role="system", content=file.system), *prompt)
    return prompt


def _last_turn(messages: tuple[Message, ...], key: str) -> tuple[tuple[Message, ...], str]:
    if len(messages) < 2 or messages[-1].role != "assistant":
        raise ValueError(f"{key}: must end with an assistant's turn that answers something")
    return messages[:-1], messages[-1].content


def _answer(side: Any, key: str) -> str:
    """A completion given as text or as the one assistant message it is."""
    if isinstance(side, str):
        return side
    if len(side) != 1 or side[0].role != "assistant":
        raise ValueError(f"{key}: must be text or one assistant message")
    return str(side[0].content)


def _turns(text: str, key: str) -> tuple[Message, ...]:
    """``\\n\\nHuman: ...\\n\\nAssistant: ...`` as messages."""
    parts = _TURN.split(text)
    if parts[0].strip() or len(parts) < 3:
        raise ValueError(f"{key}: no transcript of Human: and Assistant: turns")
    roles: dict[str, Literal["user", "assistant"]] = {"Human": "user", "Assistant": "assistant"}
    return tuple(Message(role=roles[who], content=said.strip()) for who, said in zip(parts[1::2], parts[2::2], strict=True))
