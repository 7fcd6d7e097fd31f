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
from collections.abc import Callable, Collection, Mapping, Sequence
from hashlib import sha256
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from modelyard.config import Config, digest
from modelyard.evals.metrics import METRICS
from modelyard.evals.scorers import PARSERS, SCORERS
from modelyard.formats.feedback import ImagePart, Part, TextPart
from modelyard.formats.images import Image
from modelyard.formats.records import Record
from modelyard.judges.rubric import Rubric
from modelyard.model.asked import Decoding
from modelyard.store.code_identity import code_version, definition_version

SCORED_ELSEWHERE: dict[str, Callable[[], str]] = {
    "unit_tests": lambda: code_version("modelyard.judges.sandbox.sandbox_runner", "modelyard.judges.sandbox.seccomp"),
    "preference": lambda: definition_version("modelyard.evals.scorers", "preference"),
    "secure": lambda: definition_version("modelyard.evals.scanner", "scan"),
}
"""Scorer -> identity of its code, where that is neither a function of ``scorers.SCORERS`` nor of the asking."""

ABSENT_UNLESS_SET = ("group_scorers", "graders", "labelled", "preface_images", "blank")
"""Fields that a benchmark without them does not show: the ids of those that were there before stay."""
LEAST_WORDS = 4
"""Of a question that is looked for without the prompt around it, in scripts with spaces."""
UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0e7f]")
"""Letters of scripts in which few words are many."""
IMAGE = "\ufffc"
"""Where an image stands in a text: Unicode's object replacement character, which texts of files may not hold."""
SHOWN_IMAGE = "<image>"
"""The same to people."""
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
"""How a model is asked: ``ask_{method}`` of :mod:`modelyard.evals.asking` or of :data:`REVIEWED` runs, and its source is part of the id."""
REVIEWED = {"scan": "modelyard.evals.reviewed", "graded": "modelyard.evals.reviewed"}
"""Method -> module of its function, where that is not :mod:`modelyard.evals.asking`."""


def _empty(value: object) -> bool:
    """Left out of a value's JSON, so that the ids of benchmarks that were there before a field stay."""
    return not value


class Item(Config):
    """One question."""

    id: str
    """Name in the benchmark's file, or ``benchmark/line`` (from 0) where the file gives none."""
    fields: dict[str, str]
    """What the prompt template, the scorer and the tests refer to."""
    target: str
    """The right answer; "" where a program or a model judges."""
    group: str = ""
    """Subject, language or task: key of :attr:`Benchmark.prefaces` and of the means by group."""
    choices: tuple[str, ...] = ()
    """Options, where there are any."""
    right: tuple[int, ...] = ()
    """Which of them are right, from 0."""
    question: str = ""
    """Question and context without the answer, as training sets are searched for them; "": the fields of the prompt."""
    kinds: tuple[str, ...] = Field(default=(), exclude_if=_empty)
    """What each option is, where it matters which wrong one is chosen: a record's value ``chose_{kind}`` says whether it was."""
    images: tuple[str, ...] = Field(default=(), exclude_if=_empty)
    """Ids of its images, in the order in which they stand in its prompt."""
    unit: str = Field(default="", exclude_if=_empty)
    """Name that items share which a limit takes together, such as one question asked in two ways; "": the item alone."""


class LabelledReply(Config):
    """What a model said, and what a person says of it."""

    output: str
    """The reply."""
    label: Literal["refusal", "answer", "harmless"]
    """``answer``: it gives what was asked for; ``harmless``: it does no harm, whether it refuses or not."""


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
            definition_version(REVIEWED.get(self.method, "modelyard.evals.asking"), f"ask_{self.method}"),
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
        """What an output says; "" where the parser finds no answer."""
        return PARSERS[self.parser](output)

    def score(self, parsed: str, item: Item) -> float:
        """Score of a parsed answer."""
        return SCORERS[self.group_scorers.get(item.group, self.scorer)](parsed, item.target)


def interleaved(text: str, images: Sequence[str]) -> str | tuple[Part, ...]:
    """A text with images at its places for them (:data:`IMAGE`). Raises ValueError where they are not as many."""
    first, *others = text.split(IMAGE)
    if len(others) != len(images):
        raise ValueError(f"{len(images)} images for {len(others)} places: {text[:80]!r}")
    if not images:
        return text
    parts: list[Part] = [TextPart(text=first)]
    for image, after in zip(images, others, strict=True):
        parts += [ImagePart(image=image), TextPart(text=after)]
    return tuple(part for part in parts if isinstance(part, ImagePart) or part.text)


def checked_limit(limit: float) -> float:
    """A number of items, or a share of them below 1. Raises ValueError for anything else."""
    if not 0 < limit < 1 and (limit < 1 or limit != int(limit)):
        raise ValueError(f"limit must be at least 1 and whole, or a share between 0 and 1, got {limit:g}")
    return limit


def sampled(items: Sequence[Item], limit: float | None, seed: int) -> tuple[Item, ...]:
    """At most ``limit`` items, or that share of them: a seeded sample in which every group has its share (largest remainders), in order.

    Items of one unit are taken or left together.

    Raises:
        ValueError: the limit is neither a whole number of at least 1 nor a share between 0 and 1.
    """
    if limit is None or checked_limit(limit) >= len(items):
        return tuple(items)
    units: dict[str | int, list[int]] = {}
    for place, item in enumerate(items):
        units.setdefault(item.unit or place, []).append(place)
    whole = list(units.values())
    limit = int(limit) if limit >= 1 else max(1, round(limit * len(items)))
    if len(whole) < len(items):
        limit = max(1, limit * len(whole) // len(items))
    groups: dict[str, list[int]] = {}
    for number, places in enumerate(whole):
        groups.setdefault(items[places[0]].group, []).append(number)
    exact = {name: limit * len(numbers) / len(whole) for name, numbers in groups.items()}
    counts = {name: int(share) for name, share in exact.items()}
    for name in sorted(groups, key=lambda name: counts[name] - exact[name])[: limit - sum(counts.values())]:
        counts[name] += 1
    generator = np.random.default_rng(seed)
    chosen = {place for name, own in groups.items() for number in generator.permutation(own)[: counts[name]] for place in whole[number]}
    return tuple(item for place, item in enumerate(items) if place in chosen)


class Recorder(NamedTuple):
    """Fills in what all records of a model on a benchmark share."""

    model: str
    weights: str
    benchmark: Benchmark
    identity: str
    """The benchmark's id."""
    contaminated: Collection[str]
    """Items found in a training set."""

    def __call__(
        self,
        item: Item,
        prompt: str,
        output: str,
        parsed: str,
        score: float,
        logprobs: Sequence[float],
        note: str = "",
        *,
        choice: int = -1,
        choice_normalised: int = -1,
        values: Mapping[str, float] = {},
        sample: int = 0,
    ) -> Record:
        """One record; ``prompt`` is the text that the model was shown."""
        return Record(
            benchmark=self.benchmark.name,
            benchmark_id=self.identity,
            model=self.model,
            weights=self.weights,
            item=item.id,
            group=item.group,
            target=item.target,
            prompt_sha256=sha256_text(prompt),
            prompt=prompt,
            output=output,
            parsed=parsed,
            score=score,
            logprobs=tuple(round(value, 5) for value in logprobs),
            choice=choice,
            choice_normalised=choice_normalised,
            values=dict(values),
            sample=sample,
            contaminated=item.id in self.contaminated,
            images=item.images,
            note=note,
        )


def sha256_text(text: str) -> str:
    """sha256 (hex) of a text's UTF-8."""
    return sha256(text.encode()).hexdigest()
