"""A user's own feedback: JSON lines, or one JSON array, in the shapes that are in use, each read into one kind of record.

- ``messages``: demonstrations, ``{"messages": [...]}``, ShareGPT's ``{"conversations": [{"from": "human", "value": ...}, ...]}`` (both chat) or
  ``{"prompt": ..., "completion": ...}``
- ``instructions``: demonstrations, ``{"instruction": ..., "input": ..., "output": ...}``, or ``instances`` of input and output; the first counts
- ``pairs``: ``{"prompt": ..., "chosen": ..., "rejected": ...}``; an answer is text, a message, or a conversation that begins with the prompt;
  without a prompt, what the two conversations share is it. ``score_chosen`` and ``score_rejected`` are kept
- ``transcripts``: pairs as text with ``Human:`` and ``Assistant:`` turns (Bai et al. 2022)
- ``ranked``: ``{"prompt": ..., "completions": [...], "ranks": [1, 2, 2]}`` with 2 to 9 completions, 1 the best, ties equal
- ``scored``: ``{"prompt": ..., "completions": [{"text": ..., "score": ...}, ...]}``, or UltraFeedback's ``instruction``, ``response`` and
  ``overall_score``; the highest score is the best
- ``thumbs``: ``{"prompt": ..., "completion": ..., "label": true}``, or ``messages`` with a label: one answer that somebody found good or bad
- ``flags``: ``{"prompt": ..., "completion": ..., "factual": false, "correction": ..., "consent": true}``, or ``messages``: a user says that an
  answer is not factual, or somebody that it is; a correction may stand beside it
- ``prompts``: ``{"prompt": ... (or "question"), "category": ..., "source": ..., "consent": true, "user": ..., "answer": ...}``; a share of
  the answers may be shown in demonstrations

A prompt is a string (text to be continued; a user's turn with ``chat = true``) or a list of messages, whose content may come in parts. A user's
turn may hold images: parts ``{"type": "image_url", "image_url": {"url": ...}}`` with a data URL or the path of a file below the folder of this
one, or ``<image>`` in the text and ``image`` or ``images`` beside it (LLaVA). ``id``,
``category``, ``user``, ``rater`` and ``system`` may stand in every shape; other keys are passed over and counted. One bad line ends the reading
with ``file:line: key: what is wrong``; a line of the right form that cannot be used is dropped with a reason
(:mod:`modelyard.data.feedback.content`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from pydantic import Field, model_validator

from modelyard.config import Config
from modelyard.data.corpus.document import DataError
from modelyard.data.feedback.content import UselessError, content, with_marked
from modelyard.data.feedback.file_images import FileImages, Named, require_listed
from modelyard.data.feedback.prompt_in_answers import without_prompt
from modelyard.data.feedback.rows import ROWS, Flags, Instructions, Prompts, Row, Shape, Thumbs
from modelyard.formats.feedback import (
    FeedbackError,
    Message,
    Prompt,
    PromptSource,
    check_ranks,
    content_text,
    images_of,
    is_text,
    json_lines,
    record,
)
from modelyard.formats.image_copies import NearCopies
from modelyard.formats.json_file import Line
from modelyard.printable import is_blank
from modelyard.store.file_hash import require_sha256
from modelyard.store.inputs import find_input


class FeedbackFile(Config):
    """One file of a user's own."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")
    """Source name in records and errors."""
    path: str
    """The file, plain or ``.gz``; a relative path starts beside the config, else at ``execution.inputs``."""
    sha256: str
    """Hash of the file: another file is other feedback."""
    images_sha256: str = ""
    """Hash over the image files that its lines name: of ``sha256sum``'s lines in the order of their paths; a run without it says which it is."""
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
    """Whether what its demonstrations, comparisons, thumbs or flags answer are also prompts to sample from."""
    demonstrated: float = Field(default=0.0, ge=0, le=1)
    """Shape ``prompts``: share of those with an answer that are demonstrations too, which show it."""
    chat: bool = False
    """Whether a prompt given as a string is a user's turn rather than text to be continued."""
    system: str = ""
    """System message put before every conversation that has none."""
    prompt_in_answers: bool = False
    """Whether its answers begin with the prompt, which is then cut from them; otherwise lines whose answers do are dropped."""
    split_by: Literal["item", "user"] = "item"
    """What stays together on one side of a split: everything about one prompt, or everything of one user (who must then be named)."""
    limit: int | None = Field(default=None, ge=1)
    """Most lines that are read, from the top; absent: all."""

    @model_validator(mode="after")
    def _fits(self) -> FeedbackFile:
        if self.category_with_input and self.shape != "instructions":
            raise ValueError(f"category_with_input: is of shape 'instructions', not of {self.shape!r}")
        if self.demonstrated and self.shape != "prompts":
            raise ValueError(f"demonstrated: is of shape 'prompts', not of {self.shape!r}")
        if self.shape == "flags" and self.source != "user":
            raise ValueError(f"source: flags are what users said, so it must be 'user', not {self.source!r}")
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
    """None of a prompt, one of a demonstration, a thumb or a flag, K of a comparison."""
    ranks: tuple[int, ...]
    scores: tuple[float, ...] | None
    image: str
    """Which of the images that lie together with those that its prompt shows stands for all of them; "" where it shows none."""
    answer: str | None
    """Of a prompt whose completions are verified."""
    label: bool | None
    """Of a thumb: whether its completion was found good; of a flag: whether it was found factual."""
    correction: str
    """Of a flag: a corrected answer; "" where there is none."""


class Read(NamedTuple):
    """A file's lines."""

    entries: list[Entry]
    ignored: dict[str, int]
    """Key that no record has -> lines that carry it."""
    dropped: list[tuple[str, str]]
    """(``file:line``, reason) of well-formed lines that cannot be used."""
    images: dict[str, Named]
    """Id of an image -> where it is."""


def read(file: FeedbackFile, roots: str | Sequence[str], asked: NearCopies | None = None) -> Read:
    """Every line of the file; ``asked``: the images of benchmarks, which no line may show.

    Raises:
        DataError: no such file, another file or other images than declared, or a bad line.
    """
    try:
        path = find_input(file.path, roots, f"feedback file {file.name}")
        require_sha256(path, file.sha256, f"feedback file {file.name}")
    except ValueError as error:
        raise DataError(str(error)) from None
    entries: list[Entry] = []
    dropped: list[tuple[str, str]] = []
    ignored: Counter[str] = Counter()
    images = FileImages(path.parent, file.name, file.licence, asked or NearCopies())
    try:
        for number, line in enumerate(json_lines(path)):
            if number == file.limit:
                break
            row = record(ROWS[file.shape], line)
            ignored.update(_passed_over(row))
            try:
                entries.append(_entry(file, row, line, number, images))
            except UselessError as reason:
                dropped.append((line.where, str(reason)))
    except FeedbackError as error:
        raise DataError(str(error)) from None
    require_listed(images.sha256, file.images_sha256, f"feedback file {file.name}")
    if not entries:
        reasons = ", ".join(f"{count} {reason}" for reason, count in Counter(reason for _, reason in dropped).most_common())
        raise DataError(f"feedback file {file.name}: {path}: no line of it can be used" + (f": {reasons}" if reasons else ""))
    return Read([one._replace(image=images.group(one.image)) for one in entries], dict(ignored), dropped, images.named)


def _passed_over(value: Any, key: str = "") -> set[str]:
    """The keys of a row and of what is in it that no record has, parts of lists under one name."""
    if isinstance(value, tuple):
        return {name for one in value for name in _passed_over(one, key)}
    if not isinstance(value, Config):
        return set()
    here = f"{key}." if key else ""
    deeper = (name for field in type(value).model_fields for name in _passed_over(getattr(value, field), f"{here}{field}"))
    return {*(f"{here}{name}" for name in value.model_extra or ()), *deeper}


def _entry(file: FeedbackFile, row: Row, line: Line, number: int, images: FileImages) -> Entry:
    try:
        found = content(row)
        found = without_prompt(found._replace(prompt=with_marked(_prompt(file, row, found.prompt), row)), file.prompt_in_answers)
        if file.split_by == "user" and row.user is None:
            raise ValueError("user: needed, since the file is split by user")
        if any(map(is_blank, found.completions)):
            raise UselessError("empty_completion")
        if found.ranks and len(set(found.ranks)) == 1:
            raise UselessError("tie")
        if found.ranks:
            check_ranks(found.completions, found.ranks)
        prompt = images.put(found.prompt)
    except ValueError as error:
        raise FeedbackError(f"{line.where}: {error}") from None
    is_flag = isinstance(row, Flags)
    return Entry(
        id=f"{file.name}-{number if row.id is None else row.id}",
        where=line.where,
        group=str(row.user) if row.user is not None else "",
        category=row.category or _category(file, row),
        rater="" if row.rater is None else str(row.rater),
        source=row.source if isinstance(row, Prompts) and row.source else file.source,
        consent=row.consent,
        prompt=prompt,
        completions=found.completions[:1] if is_flag else found.completions,
        ranks=found.ranks,
        scores=found.scores,
        image=next(iter(images_of(prompt)), ""),
        answer=row.answer if isinstance(row, Prompts) else None,
        label=row.label if isinstance(row, Thumbs) else row.factual if isinstance(row, Flags) else None,
        correction="".join(found.completions[1:]) if is_flag else "",
    )


def _category(file: FeedbackFile, row: Row) -> str:
    """The file's category of a line that does not say one."""
    brings_input = isinstance(row, Instructions) and bool(row.shown.input.strip())
    return file.category_with_input or file.category if brings_input else file.category


def _prompt(file: FeedbackFile, row: Row, prompt: Prompt) -> Prompt:
    """The prompt as a record holds it: a string in a chat file is a user's turn, and the line's or the file's system message comes first."""
    if is_text(prompt):
        if not file.chat:
            if row.system:
                raise ValueError("system: is of a conversation, and a prompt of this file is text to be continued (chat = false)")
            return prompt
        prompt = (Message(role="user", content=prompt),)
    if prompt[-1].role != "user":
        raise ValueError(f"prompt: ends with the {prompt[-1].role}'s turn, not with the user's")
    for reason, role in (("empty_prompt", "user"), ("empty_completion", "assistant")):
        if any(message.role == role and is_blank(content_text(message.content)) and not images_of((message,)) for message in prompt):
            raise UselessError(reason)
    system = row.system or file.system
    if system and prompt[0].role != "system":
        prompt = (Message(role="system", content=system), *prompt)
    return prompt
