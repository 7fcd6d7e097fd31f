"""A judge picks among options by the log-probabilities of their letters; nothing is generated or parsed.

Zero-shot classification as in the GPT-4 Technical Report's rule-based reward models (arXiv:2303.08774, system card, section 3.1). Two things that a
small judge needs: the options are shown in several cyclic orders and the answers averaged, since judges favour places (Zheng et al. 2023,
arXiv:2306.05685; with two options this is RLAIF's position swap), and what a judge answers about no response at all is divided out (contextual
calibration, Zhao et al. 2021, arXiv:2102.09690). Left out: explanations before the letter. Questions longer than the judge reads lose their
beginning.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import NamedTuple

from modelyard.config import Config, digest
from modelyard.model import parallel
from modelyard.model.asked import Model, softmax
from modelyard.model.subject import HubEncoder, Subject
from modelyard.rubrics.rubric import Rubric

NOTHING = "N/A"
"""Stands for prompt and response where a judge's bias is measured."""


class Question(NamedTuple):
    """A multiple-choice question."""

    text: str
    options: tuple[str, ...]

    def shown(self, by: int) -> str:
        """The question with its options lettered, option ``i`` in place ``i - by`` (cyclically)."""
        turned = (*self.options[by:], *self.options[:by])
        listed = "\n".join(f"{letter}. {option}" for letter, option in zip(string.ascii_uppercase, turned, strict=False))
        return f"{self.text}\n{listed}"


class Response(NamedTuple):
    """What a rubric is asked about."""

    prompt: str
    text: str


class Asking(Config):
    """How questions are put."""

    orders: int
    """Cyclic orders of the options that are averaged; 1: as written."""
    calibrate: bool
    """Divide out what the judge answers about no response."""
    chat: bool
    """Put the question as a user's turn of the judge's own chat template (local judges), instead of as plain text."""


class Judge:
    """A model that is asked multiple-choice questions. Raises ValueError for a way of asking that it cannot have."""

    def __init__(self, model: Model, asking: Asking) -> None:
        if asking.orders < 1:
            raise ValueError(f"judge.orders must be at least 1, got {asking.orders}")
        if asking.chat and not (isinstance(model, Subject) and isinstance(model.encoder, HubEncoder)):
            raise ValueError(f"{model.name}: its chat template is not known; set judge.chat = false")
        self.model, self.asking = model, asking
        self._biases: dict[Question, list[list[float]]] = {}

    @property
    def identity(self) -> str:
        """Who judges and how: the model's name, and a hash of its weights and of the way of asking."""
        return f"{self.model.name} {digest([self.model.weights, self.asking])[:16]}"

    def classify(self, rubric: Rubric, responses: Sequence[Response]) -> list[list[float]]:
        """Probability of every option of ``rubric`` for each response: [responses][options], each line summing to 1."""
        nothing = of_rubric(rubric, Response(NOTHING, NOTHING))
        return self.choose([of_rubric(rubric, response) for response in responses], nothing)

    def choose(self, questions: Sequence[Question], nothing: Question) -> list[list[float]]:
        """Probability of every option of each question; ``nothing`` is the question about nothing, whose answer is bias."""
        return [[sum(column) / len(parts) for column in zip(*parts, strict=True)] for parts in self.by_order(questions, nothing)]

    def by_order(self, questions: Sequence[Question], nothing: Question) -> list[list[list[float]]]:
        """As :meth:`choose`, but each order's answer by itself: [questions][orders][options], options as the question lists them."""
        count = len(nothing.options)
        orders = min(self.asking.orders, count)
        letters = self._letters(questions, orders)
        if self.asking.calibrate:
            bias = self._biases.get(nothing) or self._biases.setdefault(nothing, self._letters([nothing], orders))
            letters = [[p - b for p, b in zip(line, bias[i % orders], strict=True)] for i, line in enumerate(letters)]
        shares = [softmax(line) for line in letters]
        return [
            [[part[(option - by) % count] for option in range(count)] for by, part in enumerate(shares[start : start + orders])]
            for start in range(0, len(shares), orders)
        ]

    def _letters(self, questions: Sequence[Question], orders: int) -> list[list[float]]:
        """log p of each letter, for every question in every order."""
        asked = [self._posed(question.shown(by), len(question.options)) for question in questions for by in range(orders)]
        if isinstance(self.model, Subject) and self.model.split:
            return self.model.totals(asked)
        return parallel.on_first_rank(lambda: [[one.total for one in line] for line in self.model.likelihoods(asked)])

    def _posed(self, text: str, options: int) -> list[tuple[str, str]]:
        """The question with each letter as a continuation."""
        letters = string.ascii_uppercase[:options]
        if not self.asking.chat:
            return [(f"{text}\nAnswer:", f" {letter}") for letter in letters]
        assert isinstance(self.model, Subject)
        assert isinstance(self.model.encoder, HubEncoder)
        turn = self.model.encoder.turn_text(f"{text}\nAnswer with the letter only.")
        return [(turn, letter) for letter in letters]


def of_rubric(rubric: Rubric, response: Response) -> Question:
    """The rubric's question about a response."""
    prompt = f"User's message:\n{response.prompt.strip()}\n\n" if rubric.shows_prompt else ""
    said = response.text.strip() or "(empty)"
    text = f"{rubric.question.strip()}\n\n{prompt}Response:\n{said}\n\nWhich of these describes the response?"
    return Question(text, tuple(option.text for option in rubric.options))
