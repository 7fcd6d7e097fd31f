"""One question asked in several ways: how far does a score move with the prompt, the order of options, the shots, the temperature, the seed?

GPT-Fathom (arXiv:2309.16583, section 4) found 18 points between two prompts of TriviaQA; a single score hides that. An analysis is a list of variants
of a benchmark, each with its own id; all are put to one model and shown with n, standard error, interval, and the spread between variants.
``modelyard eval MODEL --analysis NAME --benchmark B --data DIR --out DIRECTORY``. Left
out: searching for the best prompt.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

import numpy as np

from modelyard.evals.benchmark import Benchmark
from modelyard.evals.item import Item
from modelyard.evals.ways import COLONS, LETTERS, WITH_OPTIONS, by_letter, explained
from modelyard.stats.estimate import Estimate

SHOTS = (0, 1, 3, 5)
TEMPERATURES = (0.0, 0.3, 0.7, 1.0)
SEEDS = 5
ORDERS = 4
TEMPLATES = (
    "Question: {question}\nAnswer:",
    "Q: {question}\nA:",
    "{question}\n",
    "Please answer the question.\n\n{question}\n\nThe answer is",
)
Variants = dict[str, Benchmark]


class Make(Protocol):
    """Builds a benchmark of the catalog, of the data and with the sample that the analysis is of."""

    def __call__(self, name: str, /, *, shots: int | None = None) -> Benchmark:
        """The benchmark, with its own number of examples or another. Raises ValueError as :func:`modelyard.evals.catalog.build`."""
        ...


class Spread(NamedTuple):
    """Between variants."""

    lowest: float
    highest: float
    deviation: float
    """Standard deviation between variants (0 for one)."""


def shots(name: str, make: Make) -> Variants:
    """0, 1, 3 and 5 examples, as far as the set has them."""
    found: Variants = {}
    for count in SHOTS:
        try:
            found[f"{count} shots"] = make(name, shots=count)
        except ValueError:  # it has fewer, or takes some numbers only
            if not found:
                raise
    if len(found) == 1:
        raise ValueError(f"{name}: is asked without examples only")
    return found


def templates(name: str, make: Make) -> Variants:
    """Wordings around the same question, without examples. Raises ValueError where the question is not a field of the items."""
    plain = make(name, shots=0)
    if any("question" not in item.fields for item in plain.items):
        raise ValueError(f"{name}: its items have no question to put into other words")
    found = {"as published": plain}
    items = tuple(item.model_copy(update={"fields": {**item.fields, "question": labelled(item)[0]}}) for item in plain.items)
    for number, template in enumerate(TEMPLATES, 1):
        if template != plain.prompt:
            found[f"template {number}"] = plain.model_copy(update={"prompt": template, "items": items})
    return found


def labelled(item: Item) -> tuple[str, str]:
    """A question without the label that closes it, and that (``Answer:`` in some language); "" where none does."""
    question, _, last = item.fields["question"].rpartition("\n")
    return (question, last) if question and last.endswith(COLONS) else (item.fields["question"], "")


def orders(name: str, make: Make) -> Variants:
    """Options of lettered questions in other orders, the same permutations for every model."""
    plain = make(name)
    lettered = all("\nA. " in item.fields.get("question", "") for item in plain.items)
    if not lettered:
        raise ValueError(f"{name}: its options have no letters, so their order is not shown")
    found = {"as published": plain}
    for seed in range(1, ORDERS):
        generator = np.random.default_rng(seed)
        items = tuple(reordered(item, generator.permutation(len(item.choices)).tolist()) for item in plain.items)
        found[f"order {seed}"] = plain.model_copy(update={"items": items})
    return found


def reordered(item: Item, order: list[int]) -> Item:
    """A lettered question whose options stand in ``order``."""
    listed, label = labelled(item)
    question, _, rest = listed.rpartition("\nA. ")
    texts = []
    for letter in LETTERS[1 : len(item.choices)]:
        text, _, rest = rest.partition(f"\n{letter}. ")
        texts.append(text)
    texts.append(rest)
    options = "\n".join(f"{letter}. {texts[place]}" for letter, place in zip(LETTERS, order, strict=False))
    right = tuple(order.index(place) for place in item.right)
    fields = {**item.fields, "question": "\n".join(filter(None, (question, options, label)))}
    return item.model_copy(update={"fields": fields, "right": right, "target": LETTERS[right[0]]})


def temperature(name: str, make: Make) -> Variants:
    """Generated answers at rising temperature."""
    plain = generated(name, make)
    return {
        f"temperature {t:g}": plain.model_copy(update={"decoding": plain.decoding.model_copy(update={"temperature": t})})
        for t in TEMPERATURES
    }


def seeds(name: str, make: Make) -> Variants:
    """The same sampling five times: the variance that a single run hides."""
    plain = generated(name, make)
    hot = {"temperature": plain.decoding.temperature or 0.7}
    return {f"seed {s}": plain.model_copy(update={"decoding": plain.decoding.model_copy(update={**hot, "seed": s})}) for s in range(SEEDS)}


def generated(name: str, make: Make) -> Benchmark:
    """A benchmark that draws text; of one with options the letter is drawn. Raises ValueError for another."""
    plain = make(name)
    if plain.method in WITH_OPTIONS:
        plain = by_letter(plain)
    if plain.decoding.max_new_tokens == 0:
        raise ValueError(f"{name} generates nothing, so sampling cannot change it")
    return plain


def chain_of_thought(name: str, make: Make) -> Variants:
    """Answers at once, and after an explanation; MMLU in the two forms that the catalog has. Raises ValueError where no answer can be explained."""
    if name == "mmlu":
        return {"direct": make("mmlu_letter"), "explained": make("mmlu_explained")}
    direct = generated(name, make)
    return {"direct": direct, "explained": explained(direct)}


ANALYSES: dict[str, Callable[[str, Make], Variants]] = {
    "shots": shots,
    "templates": templates,
    "orders": orders,
    "temperature": temperature,
    "seeds": seeds,
    "chain_of_thought": chain_of_thought,
}


def spread(scores: Mapping[str, Estimate]) -> Spread:
    """How far apart the variants are."""
    values = [score.value for score in scores.values()]
    return Spread(min(values), max(values), statistics.stdev(values) if len(values) > 1 else 0.0)
