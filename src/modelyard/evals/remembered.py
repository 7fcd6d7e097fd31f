"""A model that says the same thing once: what it drew is kept, for every benchmark that asks alike and for later judges.

The completions of openings are judged by a classifier, by a scorer model and against other models; they are drawn once.
After :meth:`Remembered.close` the weights are gone and what was said is still there, so that no two models and their
judge need memory at the same time. What the model itself writes down (:meth:`Subject.keep`) it has again after a stage was killed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from modelyard.config import digest
from modelyard.formats.feedback import Prompt
from modelyard.formats.token_rows import PackedRows
from modelyard.model.asked import Decoding, Likelihood, Sampled
from modelyard.model.pictures import Images
from modelyard.model.subject import Subject


class Remembered:
    """A model under test and what it has drawn."""

    def __init__(self, subject: Subject) -> None:
        self.name, self.weights = subject.name, subject.weights
        self._subject: Subject | None = subject
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
        return self.subject.likelihoods(questions)

    def row_logprobs(self, rows: PackedRows) -> list[float]:
        """Mean log p of the tokens of each row, nats."""
        return self.subject.row_logprobs(rows)

    def next_token(self, rows: PackedRows, position: int) -> tuple[list[float], list[bool]]:
        """Confidence in the likeliest token at a position of each row, and whether it stands there."""
        return self.subject.next_token(rows, position)

    def sums(self, completions: Sequence[Sampled]) -> list[float]:
        """log p of each completion after its prompt, nats; both are this model's tokens."""
        prompts, new = [one.prompt for one in completions], [one.tokens for one in completions]
        return [sum(line) for line in self.subject.logprobs(prompts, new)]

    def _drawn(self, way: str, texts: Sequence[Prompt], decoding: Decoding, draw: Callable[[], list[Sampled]]) -> list[Sampled]:
        key = digest([way, list(texts), decoding, self._blank])
        if key not in self._said:
            self._said[key] = draw()
        return self._said[key]
