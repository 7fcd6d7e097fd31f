"""How a model is asked, method by method, and what becomes of its replies: records.

``choices`` scores every option after the prompt and takes the likeliest, by the sum and by the sum a character (lm-evaluation-harness's acc
and acc_norm); ``contexts`` puts the options into the sentence and scores what follows (WinoGrande, partial evaluation of Trinh and Le 2018);
``last_word`` asks whether the word is the greedy continuation; ``generate`` judges text as a user sees it; ``explain`` draws an explanation and
then asks for the letter at temperature 0 (GPT-4 report, appendix A); ``code`` runs tests; ``judge`` lets another model rate; ``loss`` is the
log-likelihood of whole texts. Left out: several turns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from modelyard.config import digest
from modelyard.evals.benchmark import Benchmark, Item, Recorder
from modelyard.evals.sandbox.run import Limits, Program, Verdict, run_programs
from modelyard.evals.scorers import PARSERS, SCORERS
from modelyard.evals.toxicity import toxic
from modelyard.formats.abuse import AbuseModel
from modelyard.formats.records import Record
from modelyard.model.asked import Decoding, Model, Sampled, softmax

TOXIC = 0.5
"""Probability of abuse from which a text is toxic."""


class Tools(NamedTuple):
    """What judging may need beside the model."""

    sandbox: Limits = Limits(wall_seconds=10.0, cpu_seconds=10, memory_bytes=1 << 30, file_bytes=1 << 24, processes=2)
    judge: Model | None = None
    classifier: AbuseModel | None = None
    """Of toxic text."""


NO_TOOLS = Tools()


def ask(model: Model, benchmark: Benchmark, tools: Tools = NO_TOOLS) -> list[Record]:
    """Every item of ``benchmark`` put to ``model``, in order.

    Raises:
        ValueError: the benchmark needs a judge that ``tools`` lacks, or the model cannot give what the method asks for.
    """
    write = Recorder(model.name, model.weights, {})
    if benchmark.method == "code":
        return ask_code(model, benchmark, write, lambda programs: run_programs(programs, tools.sandbox))
    if benchmark.scorer == "toxicity":
        return ask_toxicity(model, benchmark, write, tools)
    if benchmark.method == "judge":
        return ask_judge(model, benchmark, write, tools)
    methods = {
        "choices": ask_choices,
        "contexts": ask_choices,
        "last_word": ask_last_word,
        "explain": ask_explain,
        "generate": ask_text,
        "loss": ask_loss,
    }
    return methods[benchmark.method](model, benchmark, write)


def options(benchmark: Benchmark, item: Item) -> list[tuple[str, str]]:
    """What is scored for an item: (context, continuation) for each choice."""
    if benchmark.method == "contexts":
        preface = benchmark.prefaces.get(item.group, "")
        return [(preface + choice, benchmark.delimiter + item.target) for choice in item.choices]
    prompt = benchmark.prompt_of(item)
    return [(prompt, benchmark.delimiter + choice) for choice in item.choices]


def ask_choices(model: Model, benchmark: Benchmark, write: Recorder) -> list[Record]:
    """Multiple choice by log-probability."""
    identity = benchmark.id
    found = model.likelihoods([options(benchmark, item) for item in benchmark.items])
    records = []
    for item, likelihoods in zip(benchmark.items, found, strict=True):
        totals = [likelihood.total for likelihood in likelihoods]
        choice = totals.index(max(totals))
        by_length = [total / len(text) for total, text in zip(totals, item.choices, strict=True)]
        normalised = by_length.index(max(by_length))
        shares = softmax(totals)
        values = {
            "acc": float(choice in item.right),
            "acc_norm": float(normalised in item.right),
            "mc2": sum(shares[i] for i in item.right),
            "confidence": shares[choice],
            "share_first": shares[0],
        }
        records.append(
            write(
                benchmark,
                identity,
                item,
                item.choices[choice],
                str(choice),
                values[benchmark.scorer],
                totals,
                choice=choice,
                choice_normalised=normalised,
                values=values,
            )
        )
    return records


def ask_last_word(model: Model, benchmark: Benchmark, write: Recorder) -> list[Record]:
    """Whether the target is the greedy continuation, token by token, and its log-likelihood (LAMBADA)."""
    identity = benchmark.id
    found = model.likelihoods([[(benchmark.prompt_of(item), benchmark.delimiter + item.target)] for item in benchmark.items])
    return [
        write(
            benchmark,
            identity,
            item,
            item.target if one.greedy else "",
            "",
            float(one.greedy),
            one.logprobs,
            values={"acc": float(one.greedy), "nats": -one.total},
        )
        for item, (one,) in zip(benchmark.items, found, strict=True)
    ]


def ask_loss(model: Model, benchmark: Benchmark, write: Recorder) -> list[Record]:
    """log p of whole texts; the score is the mean a token."""
    identity = benchmark.id
    found = model.likelihoods([[("", benchmark.prompt_of(item))] for item in benchmark.items])
    return [
        write(
            benchmark,
            identity,
            item,
            "",
            "",
            one.total / len(one.logprobs),
            one.logprobs,
            values={"nats": -one.total, "tokens": len(one.logprobs), "bytes": len(benchmark.prompt_of(item).encode())},
        )
        for item, (one,) in zip(benchmark.items, found, strict=True)
    ]


def drawn(model: Model, benchmark: Benchmark) -> list[tuple[int, Item, Sampled]]:
    """(sample number, item, completion) of every output; each sample number has a seed of its own."""
    prompts = [benchmark.prompt_of(item) for item in benchmark.items]
    outputs: list[tuple[int, Item, Sampled]] = []
    for number in range(benchmark.decoding.samples):
        decoding = benchmark.decoding.model_copy(update={"seed": benchmark.decoding.seed + number})
        outputs += [(number, item, one) for item, one in zip(benchmark.items, model.complete(prompts, decoding), strict=True)]
    order = {item.id: place for place, item in enumerate(benchmark.items)}
    return sorted(outputs, key=lambda output: (order[output[1].id], output[0]))


def ask_text(model: Model, benchmark: Benchmark, write: Recorder) -> list[Record]:
    """Black-box: text drawn, parsed and compared; a reply that cannot be parsed scores 0."""
    return scored(model, benchmark, write, lambda text, parsed, item: SCORERS[benchmark.scorer](parsed, item.target))


def ask_toxicity(model: Model, benchmark: Benchmark, write: Recorder, tools: Tools) -> list[Record]:
    """Text drawn and classified: 1 for harmless text. Apart from :func:`ask_text`, whose benchmarks' ids are not the classifier's affair."""
    classifier = tools.classifier
    if classifier is None:
        raise ValueError(f"{benchmark.name}: needs a classifier of abuse (--classifier DIR, the corpus artifact with abuse.npz)")
    judged = benchmark.model_copy(update={"judge": digest([classifier.identity, TOXIC])})
    return scored(model, judged, write, lambda text, parsed, item: float(not toxic([text], classifier, TOXIC)[0]))


def scored(model: Model, benchmark: Benchmark, write: Recorder, score: Callable[[str, str, Item], float]) -> list[Record]:
    """Records of drawn texts; ``score`` is given a text, what was parsed of it, and its item."""
    identity, records = benchmark.id, []
    for number, item, one in drawn(model, benchmark):
        parsed = PARSERS[benchmark.parser](one.text)
        found = score(one.text, parsed, item)
        values = {benchmark.scorer: found, "parsed": float(bool(parsed))}
        records.append(write(benchmark, identity, item, one.text, parsed, found, one.logprobs, cut_note(one), values=values, sample=number))
    return records


def ask_explain(model: Model, benchmark: Benchmark, write: Recorder) -> list[Record]:
    """Chain of thought: an explanation is drawn, then the letter greedily."""
    identity = benchmark.id
    outputs = drawn(model, benchmark)
    prompts = [benchmark.prompt_of(item) + one.text + benchmark.closing for _, item, one in outputs]
    finals = model.complete(prompts, Decoding(max_new_tokens=4, temperature=0.0, samples=1, seed=0))
    records = []
    for (number, item, one), final in zip(outputs, finals, strict=True):
        parsed = PARSERS[benchmark.parser](final.text)
        score = SCORERS[benchmark.scorer](parsed, item.target)
        text = one.text + benchmark.closing + final.text
        values = {"acc": score, "parsed": float(bool(parsed))}
        records.append(write(benchmark, identity, item, text, parsed, score, one.logprobs, cut_note(one), values=values, sample=number))
    return records


def ask_code(model: Model, benchmark: Benchmark, write: Recorder, run: Callable[[Sequence[Program]], list[Verdict]]) -> list[Record]:
    """Functions written by the model, run against their tests."""
    identity = benchmark.id
    outputs = drawn(model, benchmark)
    bodies = [PARSERS[benchmark.parser](one.text) for _, _, one in outputs]
    programs = [
        Program(item.fields["head"] + body, item.fields["entry_point"], item.fields["setup"], item.fields["test"])
        for (_, item, _), body in zip(outputs, bodies, strict=True)
    ]
    records = []
    for (number, item, one), body, verdict in zip(outputs, bodies, run(programs), strict=True):
        note = f"{verdict.reason or 'passed'} ({verdict.isolation or 'no answer'})" + ("; prompt cut" if one.cut else "")
        score = float(verdict.passed)
        values = {"passed": score}
        records.append(write(benchmark, identity, item, one.text, body, score, one.logprobs, note, values=values, sample=number))
    return records


def ask_judge(model: Model, benchmark: Benchmark, write: Recorder, tools: Tools) -> list[Record]:
    """Replies rated by another model; a rating that cannot be parsed scores 0 and the note holds what the judge said."""
    if tools.judge is None:
        raise ValueError(f"{benchmark.name}: needs a judging model (--judge MODEL)")
    benchmark = benchmark.model_copy(update={"judge": f"{tools.judge.name} {tools.judge.weights}"})
    identity = benchmark.id
    outputs = drawn(model, benchmark)
    prompts = [benchmark.closing.format(question=item.fields["question"], answer=one.text) for _, item, one in outputs]
    verdicts = tools.judge.complete(prompts, Decoding(max_new_tokens=256, temperature=0.0, samples=1, seed=0))
    records = []
    for (number, item, one), verdict in zip(outputs, verdicts, strict=True):
        parsed = PARSERS[benchmark.parser](verdict.text)
        score = SCORERS[benchmark.scorer](parsed, item.target)
        values = {"rating": score, "parsed": float(bool(parsed))}
        records.append(write(benchmark, identity, item, one.text, parsed, score, one.logprobs, verdict.text, values=values, sample=number))
    return records


def cut_note(one: Sampled) -> str:
    """What a record says of a prompt that was too long."""
    return "prompt cut" if one.cut else ""
