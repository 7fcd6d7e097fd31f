"""A judge picks among options by the log-probabilities of their letters, or by a letter that is read from its reply.

Zero-shot classification as in the GPT-4 Technical Report's rule-based reward models (arXiv:2303.08774, system card, section 3.1), or few-shot as in
its content classifier. Small judges need more: the options are shown in several cyclic orders and the answers averaged, since judges favour places
(Zheng et al. 2023, arXiv:2306.05685; with two options this is RLAIF's position swap), and their bias is divided out: what they answer about no
response at all (contextual calibration, Zhao et al. 2021, arXiv:2102.09690), or on average about labelled responses, labels unseen (batch
calibration, Zhou et al. 2023, arXiv:2309.17249). Where a server keeps log-probabilities to itself, the letter is generated: the option that a reply
names has all of the probability, and one that names none leaves the question open and is counted. Questions longer than the judge reads are cut
on the left.
"""

from __future__ import annotations

import math
import string
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, TypeVar

from pydantic import Field, model_validator

from modelyard.config import Config, digest
from modelyard.formats.feedback import Message, Prompt
from modelyard.judges.replies.letters import letter
from modelyard.judges.replies.thoughts import without_thoughts
from modelyard.judges.rubric import Rubric
from modelyard.log import logger
from modelyard.model.asked import ChooseBy, Decoding, InChat, Model, log_softmax, softmax
from modelyard.model.endpoint import Endpoint
from modelyard.model.network.first_rank import on_first_rank
from modelyard.model.subject import Subject
from modelyard.progress import Report, silent
from modelyard.stats.estimate import proportion

T = TypeVar("T")
LOG = logger(__name__)
NOTHING = "N/A"
"""Stands for prompt and response where a judge's bias is measured on no response."""
TOGETHER = 256
"""Questions that are put at once, between which a judge says how far it is; who was killed asks as many again at most."""
LETTER_ONLY = "Answer with the letter only."
REPLY = 16
"""Longest reply that is read for a letter where nothing is said, tokens."""
EQUAL = 1e-9
"""Probabilities that differ by less are the same."""


class Question(NamedTuple):
    """A multiple-choice question."""

    text: str
    """What comes before the options."""
    options: tuple[str, ...]
    shots: tuple[tuple[str, int], ...] = ()
    """What is shown with its answer: text and the answer's option."""
    about: str = ""
    """What comes last, where it does not stand in ``text``."""

    def spelled(self, by: int) -> str:
        """The question up to its answer, with option ``i`` in place ``i - by`` (cyclically)."""
        letters, count = string.ascii_uppercase, len(self.options)
        turned = (*self.options[by:], *self.options[:by])
        listed = "\n".join(f"{letter}. {option}" for letter, option in zip(letters, turned, strict=False))
        shown = "".join(f"\n\n{text}\nAnswer: {letters[(answer - by) % count]}" for text, answer in self.shots)
        return f"{self.text}\n{listed}{shown}" + (f"\n\n{self.about}" if self.about else "")


class Response(NamedTuple):
    """What a rubric is asked about."""

    prompt: str
    text: str


class Asking(Config):
    """How questions are put."""

    orders: int = Field(ge=1)
    """Cyclic orders of the options that are averaged; 1: as written."""
    calibrate: Literal["none", "nothing", "examples"]
    """Divide out what the judge answers about no response, or on average about the rubric's labelled responses (labels unseen)."""
    shots: int = Field(ge=0)
    """Prompts of each stance whose labelled responses are shown with their classes; agreement is measured on the others. 0: zero-shot."""
    chat: bool
    """Put the question as a user's turn of the judge's own chat template instead of as plain text."""
    choose_by: ChooseBy = "likelihood"
    """``likelihood``: the log-probabilities of the letters; ``letter``: the one that the judge's greedy reply names, for servers that give none."""
    max_new_tokens: int = Field(default=REPLY, ge=1)
    """``letter``: longest reply; a model that thinks first needs room for it."""

    @model_validator(mode="after")
    def _divides_probabilities(self) -> Asking:
        if self.choose_by == "letter" and self.calibrate != "none":
            raise ValueError(f"calibrate {self.calibrate!r} divides probabilities, and a letter of a reply has none; set it to 'none'")
        if self.choose_by != "letter" and self.max_new_tokens != REPLY:
            raise ValueError("max_new_tokens: is of choose_by 'letter'; likelihoods draw none")
        return self


def by_default(orders: int, shots: int, chat: bool, choose_by: ChooseBy) -> Asking:
    """How a judge is asked where nobody says how its bias is measured: by what it answers about nothing, where that is a probability."""
    return Asking(orders=orders, calibrate="nothing" if choose_by == "likelihood" else "none", shots=shots, chat=chat, choose_by=choose_by)


def answering(model: Model) -> str:
    """Hash of what decides a judge's answers: its weights, and of a model of ours how it reads (tokenizer, chat template)."""
    inner = model.model if isinstance(model, InChat) else model
    return digest([model.weights, inner.reading])[:16] if isinstance(inner, Subject) else model.weights


def asked_once(model: Model, ask: Callable[[], T]) -> T:
    """What ``model`` tells ``ask``, the same on every rank: all have their part in the answer of a model of ours, a server is asked by the first."""
    inner = model.model if isinstance(model, InChat) else model
    return ask() if isinstance(inner, Subject) else on_first_rank(ask)


class Judge:
    """A model that is asked multiple-choice questions. Raises ValueError for a way of asking that it cannot have."""

    def __init__(self, model: Model, asking: Asking) -> None:
        if asking.chat and not isinstance(model, Endpoint) and not (isinstance(model, Subject) and model.encoder.template):
            raise ValueError(f"{model.name}: its chat template is not known; set judge.chat = false")
        self.model, self.asking = model, asking
        self.report: Report = silent
        """Hears how many questions of a long list are answered."""
        self.replies, self.no_letter = 0, 0
        """Replies that were generated so far, and those of them that named no option's letter."""
        self._biases: dict[tuple[Question, ...], list[list[float]]] = {}

    @property
    def identity(self) -> str:
        """Who judges and how: the model's name, and a hash of what answers and of the way of asking."""
        return f"{self.model.name} {digest([answering(self.model), self.asking])[:16]}"

    @property
    def unread(self) -> dict[str, float]:
        """Share of replies that named no letter, as metrics; empty where none was generated."""
        return proportion(self.no_letter, self.replies).flat("no_letter") if self.replies else {}

    def classify(self, rubric: Rubric, responses: Sequence[Response]) -> list[list[float]]:
        """Probability of every option of ``rubric`` for each response: [responses][options], each line summing to 1.

        Raises:
            ValueError: the bias is to be measured on labelled responses and none is left.
        """
        neutral = [Response(NOTHING, NOTHING)]
        if self.asking.calibrate == "examples":
            neutral = [Response(one.prompt, one.response) for one in rubric.labelled(self.asking.shots)]
            if not neutral:
                raise ValueError(f"rubric {rubric.name}: no labelled example is left to calibrate the judge on")
        of = [of_rubric(rubric, response, self.asking.shots) for response in responses]
        return self.choose(of, tuple(of_rubric(rubric, response, self.asking.shots) for response in neutral))

    def choose(self, questions: Sequence[Question], neutral: tuple[Question, ...]) -> list[list[float]]:
        """Probability of every option of each question; the mean answer to the ``neutral`` ones is bias."""
        return [[sum(column) / len(parts) for column in zip(*parts, strict=True)] for parts in self.by_order(questions, neutral)]

    def by_order(self, questions: Sequence[Question], neutral: tuple[Question, ...]) -> list[list[list[float]]]:
        """As :meth:`choose`, but each order's answer by itself: [questions][orders][options], options as the question lists them."""
        if not questions:
            return []
        count = len(neutral[0].options)
        orders = min(self.asking.orders, count)
        letters = self._letters(questions, orders)
        if self.asking.calibrate != "none":
            bias = self._bias(neutral, orders)
            letters = [[p - b for p, b in zip(line, bias[i % orders], strict=True)] for i, line in enumerate(letters)]
        shares = [softmax(line) for line in letters]
        return [
            [[part[(option - by) % count] for option in range(count)] for by, part in enumerate(shares[start : start + orders])]
            for start in range(0, len(shares), orders)
        ]

    def _bias(self, neutral: tuple[Question, ...], orders: int) -> list[list[float]]:
        """[orders][letters]: mean log p of each letter over ``neutral``; asked once."""
        if neutral not in self._biases:
            found = self._letters(neutral, orders)
            self._biases[neutral] = [
                [sum(column) / len(neutral) for column in zip(*found[by::orders], strict=True)] for by in range(orders)
            ]
        return self._biases[neutral]

    def _letters(self, questions: Sequence[Question], orders: int) -> list[list[float]]:
        """log p of each letter among the letters, for every question in every order."""
        found: list[list[float]] = []
        for start in range(0, len(questions), TOGETHER):
            some = questions[start : start + TOGETHER]
            found += self._answered([question.spelled(by) for question in some for by in range(orders)], len(some[0].options))
            if len(questions) > TOGETHER:
                self.report(start + len(some), len(questions), unit="question")
        return found

    def _answered(self, texts: Sequence[str], options: int) -> list[list[float]]:
        if self.asking.choose_by == "letter":
            return self._generated(texts, options)
        if self.asking.chat and isinstance(self.model, Endpoint):
            return self._replied(self.model, texts, options)
        asked = [self._posed(text, options) for text in texts]
        if isinstance(self.model, Subject) and self.model.together:
            found = self.model.likelihoods(asked)
        else:
            found = on_first_rank(lambda: self.model.likelihoods(asked))
        return [log_softmax([one.total for one in line]) for line in found]

    def _generated(self, texts: Sequence[str], options: int) -> list[list[float]]:
        """0 for the letter that a reply names and -inf for the others, or 0 for all where it names none of them."""
        decoding = Decoding(max_new_tokens=self.asking.max_new_tokens, temperature=0.0, samples=1, seed=0)
        asked = [f"{text}\n{LETTER_ONLY}" if self.asking.chat else f"{text}\nAnswer:" for text in texts]
        draw = self.model.reply if self.asking.chat else self.model.complete
        said = [letter(without_thoughts(one.text)) for one in asked_once(self.model, lambda: draw(asked, decoding))]
        letters = string.ascii_uppercase[:options]
        self.replies += len(said)
        if unread := sum(one not in letters or not one for one in said):
            self.no_letter += unread
            LOG.warning(f"{self.model.name}: {unread} of {len(said)} replies name none of {', '.join(letters)}; these questions stay open")
        return [[0.0 if one == name or one not in letters or not one else -math.inf for name in letters] for one in said]

    def _replied(self, model: Endpoint, texts: Sequence[str], options: int) -> list[list[float]]:
        """log p of each letter among the letters, of a server's chat model."""
        asked = [f"{text}\n{LETTER_ONLY}" for text in texts]
        found = on_first_rank(lambda: model.letters(asked, string.ascii_uppercase[:options]))
        return [log_softmax(line) for line in found]

    def _posed(self, text: str, options: int) -> list[tuple[Prompt, str]]:
        """The question with each letter as a continuation."""
        letters = string.ascii_uppercase[:options]
        if not self.asking.chat:
            return [(f"{text}\nAnswer:", f" {letter}") for letter in letters]
        asked = (Message(role="user", content=f"{text}\n{LETTER_ONLY}"),)
        return [(asked, letter) for letter in letters]


def likeliest(probabilities: Sequence[float]) -> list[int]:
    """Place of the largest probability; several where they tie, as where replies named no letter or different ones in different orders."""
    most = max(probabilities)
    return [place for place, p in enumerate(probabilities) if most - p < EQUAL]


def of_rubric(rubric: Rubric, response: Response, shots: int) -> Question:
    """The rubric's question about a response, with ``shots`` prompts of each stance shown."""
    shown = tuple((body(rubric, one.prompt, one.response), one.label) for one in rubric.shown(shots))
    return Question(rubric.question.strip(), tuple(option.text for option in rubric.options), shown, body(rubric, *response))


def body(rubric: Rubric, prompt: str, text: str) -> str:
    """A response as the judge reads it, after its prompt where the rubric shows it."""
    message = f"User's message:\n{prompt.strip()}\n\n" if rubric.shows_prompt else ""
    return f"{message}Response:\n{text.strip() or '(empty)'}\n"
