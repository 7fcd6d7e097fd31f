"""A benchmark is one value: items, prompt, decoding, parser, scorer and metrics.

Its id hashes all of them with the code that asks, parses, scores and summarises, so results of equal ids were measured
alike and results of different ids are never compared (``release.compare`` refuses). The idea is inspect_ai's task as a
value and marin's frozen evaluation policy; the per-item records follow GPT-Fathom's "all outputs are kept". Prompts
that begin alike keep that beginning in ``prefaces`` (few-shot examples of a subject), so that it is stored, hashed and
computed once. Left out: examples as turns of a conversation.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from modelyard.config import Config, digest
from modelyard.evals.image_places import IMAGE, SHOWN_IMAGE, interleaved
from modelyard.evals.item import Item, LabelledReply
from modelyard.evals.metrics import METRICS
from modelyard.evals.scorers import PARSERS, SCORERS
from modelyard.formats.feedback import Part
from modelyard.formats.images import Image
from modelyard.judges.replies.thoughts import without_thoughts
from modelyard.judges.rubric import Rubric
from modelyard.model.asked import Decoding
from modelyard.store.code_identity import code_version, definition_version

SCORED_ELSEWHERE: dict[str, Callable[[], str]] = {
    "unit_tests": lambda: code_version("modelyard.judges.sandbox.sandbox_runner", "modelyard.judges.sandbox.seccomp"),
    "preference": lambda: definition_version("modelyard.evals.scorers", "preference"),
    "secure": lambda: definition_version("modelyard.evals.scanner", "scan"),
}
"""Scorer -> identity of its code, where that is neither a function of ``scorers.SCORERS`` nor of the asking."""

ABSENT_UNLESS_SET = ("group_scorers", "graders", "labelled", "preface_images", "blank", "left_out")
"""Fields that a benchmark without them does not show: the ids of those that were there before stay."""
LEAST_WORDS = 4
"""Of a question that is looked for without the prompt around it, in scripts with spaces."""
UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0e7f]")
"""Letters of scripts in which few words are many."""
NOTHING_DRAWN = Decoding(max_new_tokens=0, temperature=0.0, samples=0, seed=0)
Method = Literal[
    "generate",
    "choices",
    "contexts",
    "last_word",
    "word",
    "explain",
    "turns",
    "code",
    "judge",
    "toxicity",
    "scalar",
    "loss",
    "rows",
    "next_token",
    "scan",
    "graded",
]
"""How a model is asked: ``ask_{method}`` runs, and its source is part of the id."""
LIKELIHOODS = ("choices", "contexts", "last_word", "word", "loss", "rows", "next_token")
"""Methods of :mod:`modelyard.evals.likelihoods`."""
REVIEWED = ("scan", "graded")
"""Methods of :mod:`modelyard.evals.reviewed`."""
ASKED_BY = dict.fromkeys(LIKELIHOODS, "modelyard.evals.likelihoods") | dict.fromkeys(REVIEWED, "modelyard.evals.reviewed")
"""Method -> module of its function, where that is not :mod:`modelyard.evals.asking`."""


class Benchmark(Config):
    """Everything that a score depends on beside the model."""

    name: str
    """last_word, human_eval, openings..."""
    items: tuple[Item, ...]
    """In the order of the records."""
    prompt: str
    """``str.format`` template over an item's fields."""
    decoding: Decoding
    """How outputs are drawn."""
    parser: str
    """Key of ``scorers.PARSERS``."""
    scorer: str
    """Key of ``scorers.SCORERS``, or what judges instead: ``unit_tests``, ``log_likelihood``, ``scorer_model``,
    ``preference``, ``toxicity``, ``secure``, ``graded``."""
    group_scorers: dict[str, str] = Field(default_factory=dict)
    """Group -> key of ``scorers.SCORERS`` in place of :attr:`scorer`: numbers are read by the group's language."""
    metrics: tuple[str, ...]
    """Names of the metrics made of the records, the one that stands for the benchmark first."""
    method: Method = "generate"
    """How a model is asked."""
    chat: bool = False
    """Ask in the model's chat template (``User: ...``, ``Assistant:`` where it has none) instead of as plain text."""
    prefaces: dict[str, str] = Field(default_factory=dict)
    """Group -> what stands before the prompts of its items."""
    preface_images: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Group -> ids of the images in its preface, in their order."""
    blank: bool = False
    """Every image is shown grey: the control that says what can be answered without seeing."""
    examples: dict[str, tuple[Item, ...]] = Field(default_factory=dict, exclude=True)
    """Group -> the solved items that its preface shows, for :mod:`modelyard.evals.ways`; no part of the value, whose prefaces hold them."""
    delimiter: str = " "
    """Between a prompt and what is scored after it."""
    closing: str = ""
    """``explain``: what follows the explanation and asks for the letter. ``judge``: the judge's template over
    ``question``, ``answer``."""
    rubric: Rubric | None = None
    """Classes that replies are also sorted into by a judge; each becomes a value ``class_{name}`` of the record."""
    graders: tuple[Rubric, ...] = ()
    """``graded``: questions that a judge answers about each reply; what its class is worth is the record's value of the rubric's name."""
    pictures: dict[str, Image] = Field(default_factory=dict, exclude=True)
    """The images themselves where it was built from files, for the artifact that holds it; no part of the value, whose items name them by content."""
    left_out: dict[str, int] = Field(default_factory=dict)
    """Why rows of its files are no items of it -> how many."""
    labelled: tuple[LabelledReply, ...] = ()
    """Replies by which the error of the parser is measured. No part of the id: no score depends on them."""
    judge: str = ""
    """Identity of the model, classifier or sandbox that judges. Part of the id."""
    aspect: str = ""
    """What it is about; benchmarks of ``safety`` are held to limits by the safety gate."""
    sides: tuple[str, ...] = ()
    """Groups that are compared each by itself, since a gain on one must not pay for a loss on another."""

    @property
    def id(self) -> str:
        """First 16 hex digits of a hash over every field that a score depends on and the code that asks, parses, scores and summarises."""
        return digest({"benchmark": self.model_copy(update={"labelled": ()}), "code": self._code()})[:16]

    def _code(self) -> list[str]:
        judging = [PARSERS[self.parser], *(SCORERS[name] for name in self._scorers() if name in SCORERS)]
        modules = dict.fromkeys(function.__module__ for function in judging)
        elsewhere = SCORED_ELSEWHERE.get(self.scorer)
        metrics = [name for name in self.metrics if name in METRICS]
        return [
            definition_version(ASKED_BY.get(self.method, "modelyard.evals.asking"), f"ask_{self.method}"),
            definition_version("modelyard.judges.replies.thoughts", "without_thoughts"),
            definition_version("modelyard.model.asked", "boundary", "ended", "plain", *(["plain_turns"] if self.method == "turns" else [])),
            *(definition_version(name, *(one.__name__ for one in judging if one.__module__ == name)) for name in modules),
            *([elsewhere()] if elsewhere else []),
            definition_version("modelyard.evals.metrics", "mean", *metrics),
            *([definition_version("modelyard.evals.methods", "in_kinds")] if any(item.kinds for item in self.items) else []),
        ]

    def _scorers(self) -> list[str]:
        return [self.scorer, *sorted(set(self.group_scorers.values()) - {self.scorer})]

    @model_serializer(mode="wrap")
    def _shown(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if value or name not in ABSENT_UNLESS_SET}

    @property
    def of_text(self) -> bool:
        """Whether any model can be asked, whatever its tokenizer, and no other model has a part in the score: what
        versions are compared on."""
        return not self.packed and self.scorer not in ("scorer_model", "preference")

    @property
    def packed(self) -> bool:
        """Whether the items are rows of packed tokens, which only models of one tokenizer read."""
        return self.method in ("rows", "next_token")

    @property
    def classes(self) -> tuple[str, ...]:
        """The values of a record by which a judge sorts replies."""
        return tuple(f"class_{option.name}" for option in self.rubric.options) if self.rubric else ()

    @property
    def seen(self) -> bool:
        """Whether it has images, so that only a model that is shown images can be asked."""
        return any(item.images for item in self.items)

    @property
    def image_ids(self) -> list[str]:
        """Every image of its items and examples, once."""
        shown = [*self.preface_images.values(), *(item.images for item in self.items)]
        return list(dict.fromkeys(image for images in shown for image in images))

    def written(self, item: Item) -> str:
        """The item's prompt with what stands before it; :data:`IMAGE` where images stand."""
        return self.prefaces.get(item.group, "") + self.prompt.format(**item.fields)

    def prompt_of(self, item: Item) -> str:
        """:meth:`written` as people read it."""
        return self.written(item).replace(IMAGE, SHOWN_IMAGE)

    def parts_of(self, item: Item) -> str | tuple[Part, ...]:
        """The item's prompt with its images, and with those of the examples before it; a text where there are none.

        Raises:
            ValueError: there are other images than places for them.
        """
        return interleaved(self.written(item), (*self.preface_images.get(item.group, ()), *item.images))

    def question_of(self, item: Item) -> str:
        """What is looked for in training sets: question and context, without examples, instructions or answer.

        Fields that are a name alone (``{country}``) ask nothing by themselves: then it is the prompt that they stand in.
        """
        return (item.question or self._question(item)).replace(IMAGE, "").strip() if item.images else item.question or self._question(item)

    def _question(self, item: Item) -> str:
        names = [name for _, name, _, _ in string.Formatter().parse(self.prompt) if name]
        asked = "\n".join(item.fields[name] for name in dict.fromkeys(names))
        whole = asked.rstrip().endswith("?") or len(asked.split()) >= LEAST_WORDS or UNSPACED.search(asked)
        return asked if whole else self.prompt.format(**item.fields)

    def parse(self, output: str) -> str:
        """What an output says, thoughts left out; "" where the parser finds no answer."""
        return PARSERS[self.parser](without_thoughts(output))

    def score(self, parsed: str, item: Item) -> float:
        """Score of a parsed answer."""
        return SCORERS[self.group_scorers.get(item.group, self.scorer)](parsed, item.target)
