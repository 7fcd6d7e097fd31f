"""A model that says the same thing once: what it drew is kept, for every benchmark that asks alike and for later judges.

The completions of openings are judged by a classifier, by a scorer model and against other models; they are drawn once.
After :meth:`Remembered.close` the weights are gone and what was said is still there, so that no two models and their
judge need memory at the same time. A file has all of it as it comes, so a stage that was killed asks only for the rest.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from modelyard.config import digest
from modelyard.formats.feedback import Prompt
from modelyard.formats.token_rows import PackedRows
from modelyard.model.asked import Decoding, Likelihood, Sampled
from modelyard.model.network.first_rank import on_first_rank
from modelyard.model.pictures import Images
from modelyard.model.subject import Subject

T = TypeVar("T")


class Said:
    """What a model has said, in a file of JSON lines that rank 0 has. Every rank asks, and hears the same."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._known: dict[str, Any] = {}
        on_first_rank(self._open)

    def _open(self) -> None:
        """Read what is there; a line that was being written when the writer was killed is taken off."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        lines = self._file.read_bytes().splitlines(keepends=True) if self._file.is_file() else []
        whole = lines if not lines or lines[-1].endswith(b"\n") else lines[:-1]
        if len(whole) < len(lines):
            os.truncate(self._file, sum(map(len, whole)))
        self._known = dict(json.loads(line) for line in whole)

    def once(self, key: str, ask: Callable[[], T], of: Callable[[Any], T]) -> T:
        """What was said under ``key``, made of JSON by ``of``; asked and written down where nothing was."""
        known = on_first_rank(lambda: self._known.get(key))
        if known is not None:
            return of(known)
        said = ask()
        on_first_rank(lambda: self._add(key, said))
        return said

    def _add(self, key: str, said: object) -> None:
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps([key, said]) + "\n")
            file.flush()
            os.fsync(file.fileno())


class Remembered:
    """A model under test and what it has said, which the directory ``kept`` has a file of."""

    def __init__(self, subject: Subject, kept: Path) -> None:
        self.name, self.weights = subject.name, subject.weights
        self._subject: Subject | None = subject
        self._kept = Said(kept / f"{subject.name}.jsonl")
        self._said: dict[str, list[Sampled]] = {}
        self._turns: dict[Prompt, str] = {}
        self._blank = False

    @property
    def subject(self) -> Subject:
        """The model itself, until it is closed."""
        assert self._subject, f"{self.name} is closed and was asked something new"
        return self._subject

    @property
    def sees(self) -> bool:
        """Whether it can be asked about images."""
        return self.subject.sees

    def show(self, images: Images, blank: bool) -> None:
        """From here on prompts may hold ``images``; ``blank``: every one of them grey."""
        self._blank = blank
        self.subject.show(images, blank)

    def close(self) -> None:
        """Let go of the weights."""
        self._subject = None

    def complete(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[Sampled]:
        """A completion of each prompt."""
        return self._drawn("complete", prompts, decoding, lambda: self.subject.complete(prompts, decoding))

    def reply(self, said: Sequence[Prompt], decoding: Decoding) -> list[Sampled]:
        """A reply to each message or conversation."""
        return self._drawn("reply", said, decoding, lambda: self.subject.reply(said, decoding))

    def turn(self, said: Prompt) -> str:
        """The text that :meth:`reply` continues, to be looked at."""
        if said not in self._turns:
            self._turns[said] = self.subject.turn(said)
        return self._turns[said]

    def prepare(self, chat: bool, said: Sequence[Prompt]) -> None:
        """Keep the text of turns that are only looked at when the model is closed."""
        for one in said if chat else ():
            self.turn(one)

    def likelihoods(self, questions: Sequence[Sequence[tuple[Prompt, str]]]) -> list[list[Likelihood]]:
        """log p of each (context, continuation) of each question."""
        asked = [[list(pair) for pair in question] for question in questions]
        return self._kept.once(
            self._key("likelihoods", asked),
            lambda: self.subject.likelihoods(questions),
            lambda found: [[Likelihood(*one) for one in question] for question in found],
        )

    def row_logprobs(self, rows: PackedRows) -> list[float]:
        """Mean log p of the tokens of each row, nats."""
        return self._kept.once(self._key("rows", _hash(rows)), lambda: self.subject.row_logprobs(rows), list)

    def next_token(self, rows: PackedRows, position: int) -> tuple[list[float], list[bool]]:
        """Confidence in the likeliest token at a position of each row, and whether it stands there."""
        return self._kept.once(
            self._key("next token", [position, _hash(rows)]),
            lambda: self.subject.next_token(rows, position),
            lambda found: (found[0], found[1]),
        )

    def sums(self, completions: Sequence[Sampled]) -> list[float]:
        """log p of each completion after its prompt, nats; both are this model's tokens."""
        prompts, new = [one.prompt for one in completions], [one.tokens for one in completions]
        return self._kept.once(self._key("sums", [prompts, new]), lambda: [sum(line) for line in self.subject.logprobs(prompts, new)], list)

    def _drawn(self, way: str, texts: Sequence[Prompt], decoding: Decoding, draw: Callable[[], list[Sampled]]) -> list[Sampled]:
        key = self._key(way, [list(texts), decoding])
        if key not in self._said:
            self._said[key] = self._kept.once(key, draw, lambda found: [Sampled(*one) for one in found])
        return self._said[key]

    def _key(self, way: str, asked: object) -> str:
        return digest([self.weights, way, asked, self._blank])


def _hash(rows: PackedRows) -> str:
    parts = (rows.tokens, rows.documents)
    return sha256(b"".join(part.tobytes() for part in parts if part is not None)).hexdigest()
