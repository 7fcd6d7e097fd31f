"""Asking by likelihood: what a model makes of texts that are given, without drawing any but for ``word``.

``choices`` scores every option after the prompt and takes the likeliest, by the sum and by the sum a character
(lm-evaluation-harness's acc and acc_norm), or of a question about images by what those add to it; ``contexts`` puts the
options into the sentence and scores what follows (WinoGrande, partial evaluation of Trinh and Le 2018); ``last_word`` asks
whether the word is the greedy continuation, ``word`` judges the word that is generated (both LAMBADA, Paperno et al. 2016);
``loss`` is the log-likelihood of whole texts, ``rows`` that of packed tokens, and ``next_token`` predicts in them.
"""

from __future__ import annotations

from modelyard.evals.asking import cut_note, drawn, put, shown
from modelyard.evals.benchmark import Benchmark
from modelyard.evals.item import Item
from modelyard.evals.recorder import Recorder
from modelyard.evals.tools import Tools
from modelyard.formats.continuations import Continuation
from modelyard.formats.feedback import Prompt, content_text, is_text
from modelyard.formats.records import Record
from modelyard.formats.token_rows import PackedRows
from modelyard.model.asked import Model, PackedModel, softmax


def options(benchmark: Benchmark, item: Item) -> list[tuple[Prompt, str]]:
    """What is scored for an item: (context, continuation) for each choice."""
    if benchmark.method == "contexts":
        preface = benchmark.prefaces.get(item.group, "")
        return [(preface + choice, benchmark.delimiter + item.target) for choice in item.choices]
    prompt = put(benchmark, item)
    return [(prompt, benchmark.delimiter + choice) for choice in item.choices]


def unseen(prompt: Prompt) -> Prompt:
    """The prompt without its images."""
    if isinstance(prompt, str):
        return prompt
    if is_text(prompt):
        return content_text(prompt)
    return tuple(message.model_copy(update={"content": content_text(message.content)}) for message in prompt)


def ask_choices(model: Model, benchmark: Benchmark, tools: Tools, write: Recorder) -> list[Record]:
    """Multiple choice by log-probability; where the scorer is ``acc_gain``, by how much of it the images bring."""
    asked = [options(benchmark, item) for item in benchmark.items]
    found = model.likelihoods(asked)
    by_gain = benchmark.scorer == "acc_gain"
    blind = model.likelihoods([[(unseen(context), new) for context, new in one] for one in asked]) if by_gain else [None] * len(asked)
    records = []
    for item, likelihoods, without in zip(benchmark.items, found, blind, strict=True):
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
            **({"nats": -totals[item.right[0]]} if len(item.right) == 1 else {}),
        }
        picked = choice
        if without is not None:
            gains = [total - other.total for total, other in zip(totals, without, strict=True)]
            picked = gains.index(max(gains))
            values["acc_gain"] = float(picked in item.right)
        records.append(
            write(
                item,
                shown(model, benchmark, item),
                item.choices[picked],
                str(picked),
                values[benchmark.scorer],
                totals,
                choice=choice,
                choice_normalised=normalised,
                values=values,
            )
        )
    return records


def ask_contexts(model: Model, benchmark: Benchmark, tools: Tools, write: Recorder) -> list[Record]:
    """Multiple choice by what follows each option."""
    return ask_choices(model, benchmark, tools, write)


def continued(benchmark: Benchmark, item: Item) -> list[tuple[Prompt, str]]:
    """The prompt and its target, whose likelihood is asked for."""
    return [(put(benchmark, item), benchmark.delimiter + item.target)]


def one_text_is_right(benchmark: Benchmark) -> bool:
    """Whether every item is a text with one right continuation, which the record's ``nats`` are of."""
    chosen = benchmark.method == "choices" and all(len(item.right) == 1 for item in benchmark.items)
    return (chosen or benchmark.method in ("word", "last_word")) and not benchmark.chat and not benchmark.seen


def continuations(benchmark: Benchmark) -> list[Continuation]:
    """What is right after each prompt, for those who ask without a benchmark (:func:`one_text_is_right`)."""

    def right(item: Item) -> str:
        return item.choices[item.right[0]] if benchmark.method == "choices" else item.target

    asked = [(item.id, benchmark.prompt_of(item), benchmark.delimiter + right(item)) for item in benchmark.items]
    return [Continuation(item=item, context=context, text=text) for item, context, text in asked]


def ask_last_word(model: Model, benchmark: Benchmark, tools: Tools, write: Recorder) -> list[Record]:
    """Whether the target is the greedy continuation, token by token, and its log-likelihood."""
    found = model.likelihoods([continued(benchmark, item) for item in benchmark.items])
    records = []
    for item, (one,) in zip(benchmark.items, found, strict=True):
        prompt = shown(model, benchmark, item)
        said, score = (item.target, 1.0) if one.greedy else ("", 0.0)
        records.append(write(item, prompt, said, "", score, one.logprobs, values={"acc": score, "nats": -one.total}))
    return records


def ask_word(model: Model, benchmark: Benchmark, tools: Tools, write: Recorder) -> list[Record]:
    """The word generated, judged as text, and the log-likelihood of the right one."""
    found = model.likelihoods([continued(benchmark, item) for item in benchmark.items])
    records = []
    for (number, item, one), (right,) in zip(drawn(model, benchmark), found, strict=True):
        parsed = benchmark.parse(one.text)
        score = benchmark.score(parsed, item)
        values = {"acc": score, "nats": -right.total}
        prompt = shown(model, benchmark, item)
        records.append(write(item, prompt, one.text, parsed, score, right.logprobs, cut_note(one), values=values, sample=number))
    return records


def ask_loss(model: Model, benchmark: Benchmark, tools: Tools, write: Recorder) -> list[Record]:
    """log p of whole texts; the score is minus the nats a UTF-8 byte, which models of any tokenizer share."""
    prompts = [benchmark.prompt_of(item) for item in benchmark.items]
    records = []
    for item, text, (one,) in zip(benchmark.items, prompts, model.likelihoods([[("", text)] for text in prompts]), strict=True):
        size = max(1, len(text.encode()))
        values = {"nats": -one.total, "tokens": float(len(one.logprobs)), "bytes": float(size)}
        records.append(write(item, text, "", "", one.total / size, one.logprobs, values=values))
    return records


def packed(model: Model, benchmark: Benchmark, tools: Tools) -> tuple[PackedModel, PackedRows]:
    """The model and the rows of a benchmark of packed tokens. Raises ValueError where either is missing."""
    if not isinstance(model, PackedModel) or tools.rows is None:
        raise ValueError(f"{benchmark.name}: is asked of a line's own models, on packed rows of their tokenizer")
    return model, tools.rows


def ask_rows(model: Model, benchmark: Benchmark, tools: Tools, write: Recorder) -> list[Record]:
    """log p of packed rows, the mean a token."""
    reader, rows = packed(model, benchmark, tools)
    found = reader.row_logprobs(rows[[int(item.fields["row"]) for item in benchmark.items]])
    tokens = float(rows.tokens.shape[1] - 1)
    return [
        write(item, "", "", "", value, [value], values={"nats": -value * tokens, "tokens": tokens})
        for item, value in zip(benchmark.items, found, strict=True)
    ]


def ask_next_token(model: Model, benchmark: Benchmark, tools: Tools, write: Recorder) -> list[Record]:
    """Confidence in the likeliest next token at a position of a packed row, and whether it stands there."""
    reader, rows = packed(model, benchmark, tools)
    records = []
    for position in dict.fromkeys(item.fields["position"] for item in benchmark.items):
        items = [item for item in benchmark.items if item.fields["position"] == position]
        sure, right = reader.next_token(rows[[int(item.fields["row"]) for item in items]], int(position))
        records += [
            write(item, "", "", "", float(hit), [], values={"acc": float(hit), "confidence": confidence})
            for item, confidence, hit in zip(items, sure, right, strict=True)
        ]
    return records
