"""Every method of asking by its name, and what a benchmark adds to the records of any of them.

:mod:`modelyard.evals.likelihoods` has the methods that score given texts (``word`` draws one too), :mod:`modelyard.evals.asking` those that draw
replies, :mod:`modelyard.evals.reviewed` those in which replies are read by a tool or by graders. Here a rubric's classes and the
kinds of options are added to what they recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from modelyard.evals import asking, likelihoods, reviewed
from modelyard.evals.benchmark import Benchmark, Method
from modelyard.evals.item import Item
from modelyard.evals.recorder import Recorder
from modelyard.evals.tools import Tools
from modelyard.formats.records import Record
from modelyard.judges.judge import Response
from modelyard.judges.replies.thoughts import without_thoughts
from modelyard.model.asked import Model

Ask = Callable[[Model, Benchmark, Tools, Recorder], list[Record]]
METHODS: Mapping[Method, Ask] = {
    "generate": asking.ask_generate,
    "choices": likelihoods.ask_choices,
    "contexts": likelihoods.ask_contexts,
    "last_word": likelihoods.ask_last_word,
    "word": likelihoods.ask_word,
    "explain": asking.ask_explain,
    "turns": asking.ask_turns,
    "code": asking.ask_code,
    "judge": asking.ask_judge,
    "toxicity": asking.ask_toxicity,
    "scalar": asking.ask_scalar,
    "loss": likelihoods.ask_loss,
    "rows": likelihoods.ask_rows,
    "next_token": likelihoods.ask_next_token,
    "scan": reviewed.ask_scan,
    "graded": reviewed.ask_graded,
}
"""A benchmark's id hashes ``ask_{method}``, so each method's function has that name."""


def ask(model: Model, benchmark: Benchmark, tools: Tools, contaminated: Collection[str] = ()) -> list[Record]:
    """Every item of a :func:`~modelyard.evals.tools.bound` benchmark put to ``model``, in order.

    ``contaminated`` names items that training met.

    Raises:
        ValueError: the benchmark needs a judge that ``tools`` lacks, or the model cannot give what the method asks for.
    """
    write = Recorder(model.name, model.weights, benchmark, benchmark.id, contaminated)
    records = METHODS[benchmark.method](model, benchmark, tools, write)
    if any(item.kinds for item in benchmark.items):
        records = in_kinds(records, benchmark)
    return in_classes(records, benchmark, tools) if benchmark.rubric else records


def in_classes(records: Sequence[Record], benchmark: Benchmark, tools: Tools) -> list[Record]:
    """The records with the probability of each of the rubric's classes."""
    assert benchmark.rubric
    assert tools.sorter
    said = {item.id: benchmark.prompt_of(item) for item in benchmark.items}
    found = tools.sorter.classify(benchmark.rubric, [Response(said[r.item], without_thoughts(r.output)) for r in records])
    return [with_values(r, dict(zip(benchmark.classes, line, strict=True))) for r, line in zip(records, found, strict=True)]


def in_kinds(records: Sequence[Record], benchmark: Benchmark) -> list[Record]:
    """The records with ``chose_{kind}`` for every kind of their item's options, and ``right``; a reply that names no option chose none."""
    items = {item.id: item for item in benchmark.items}
    return [with_values(r, kinds_of(items[r.item], r)) for r in records]


def kinds_of(item: Item, record: Record) -> dict[str, float]:
    """Which kind of option was chosen: the likeliest, or the one whose letter the reply gives."""
    place = record.choice
    if place < 0:
        place = item.choices.index(record.parsed) if record.parsed in item.choices else -1
    chosen = item.kinds[place] if item.kinds and place >= 0 else ""
    return {"right": float(place in item.right), **{f"chose_{kind}": float(kind == chosen) for kind in item.kinds if kind}}


def with_values(record: Record, values: Mapping[str, float]) -> Record:
    """The record with more values."""
    return record.model_copy(update={"values": {**record.values, **values}})
