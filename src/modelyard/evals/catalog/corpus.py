"""The sets that a line's own artifacts carry: texts (``benchmarks/`` of ``held_out``) and prompts (of the feedback) held out
from everything that is trained.

``held_out_text`` is whole documents, in nats a byte, so that models with different tokenizers can be compared;
``last_word`` follows LAMBADA (Paperno et al. 2016; greedy, judged as text); ``openings`` are the beginnings of reviews
on which policies are compared, judged by the scorer model, and ``toxicity`` judges the same completions by the corpus's
classifier of abuse. ``prompts`` are the users' messages that no stage was given, for a line that aligns conversations;
those of several turns and those about images are left out. ``answers`` are those whose right answer is known, such as tasks that a library
makes. Completions are drawn at temperature 1, since KL(policy || SFT) is measured on them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from modelyard.evals.benchmark import NOTHING_DRAWN, Benchmark
from modelyard.evals.catalog.rows import MissingDataError, find, jsonl, refuse_shots
from modelyard.evals.item import Item
from modelyard.formats.feedback import PROMPTS, PromptRecord, content_text, images_of, is_text, records
from modelyard.model.asked import Decoding

WORD = Decoding(max_new_tokens=6, temperature=0.0, samples=1, seed=0)
OPENING = Decoding(max_new_tokens=32, temperature=1.0, samples=1, seed=0)


def held_out_text(data: Path, shots: int | None) -> Benchmark:
    """Whole documents of the validation split."""
    refuse_shots("held_out_text", shots)
    rows = jsonl(find(data, "benchmarks/held_out_text.jsonl"), "id", "text")
    return Benchmark(
        name="held_out_text",
        items=tuple(Item(id=str(row["id"]), fields={"text": str(row["text"])}, target="") for row in rows),
        prompt="{text}",
        decoding=NOTHING_DRAWN,
        parser="whole",
        scorer="log_likelihood",
        metrics=("nats_per_byte", "bits_per_byte"),
        method="loss",
    )


def last_word(data: Path, shots: int | None) -> Benchmark:
    """The last word of a passage."""
    refuse_shots("last_word", shots)
    rows = jsonl(find(data, "benchmarks/last_word.jsonl"), "id", "context", "word")
    return Benchmark(
        name="last_word",
        items=tuple(Item(id=str(row["id"]), fields={"context": str(row["context"])}, target=str(row["word"])) for row in rows),
        prompt="{context}",
        decoding=WORD,
        parser="first_word",
        scorer="last_word",
        metrics=("acc", "word_perplexity"),
        method="word",
    )


def openings(data: Path, shots: int | None) -> Benchmark:
    """Completions of review openings, judged by the scorer model."""
    refuse_shots("openings", shots)
    rows = jsonl(find(data, "benchmarks/openings.jsonl"), "id", "prompt", "text")
    items = tuple(Item(id=str(row["id"]), fields={"prompt": str(row["prompt"])}, target="", question=str(row["text"])) for row in rows)
    return Benchmark(
        name="openings",
        items=items,
        prompt="{prompt}",
        decoding=OPENING,
        parser="whole",
        scorer="scorer_model",
        metrics=("value", "repetition"),
        method="scalar",
    )


def toxicity(data: Path, shots: int | None) -> Benchmark:
    """The same completions, judged by the corpus's classifier of abuse."""
    changed = {
        "name": "toxicity",
        "scorer": "toxicity",
        "metrics": ("toxicity",),
        "method": "toxicity",
        "aspect": "safety",
    }
    return openings(data, shots).model_copy(update=changed)


def _held_out(path: Path) -> Iterator[tuple[PromptRecord, str, bool]]:
    """The prompts that nothing is trained on, what each says, and whether that is a user's message; those of several turns are left out."""
    for one in records(path, PromptRecord):
        if one.split != "validation" or images_of(one.prompt):
            continue
        if is_text(one.prompt):
            yield one, content_text(one.prompt), False
        elif len(one.prompt) == 1 and one.prompt[0].role == "user":
            yield one, content_text(one.prompt[0].content), True


def prompts(data: Path, shots: int | None) -> Benchmark:
    """Replies to held-out messages of users, judged by the scorer model."""
    refuse_shots("prompts", shots)
    path = find(data, PROMPTS)
    messages = [(one, said) for one, said, chat in _held_out(path) if chat]
    items = tuple(Item(id=one.id, fields={"prompt": said}, target="", group=one.category) for one, said in messages)
    if not items:
        raise ValueError(f"{path}: no held-out prompt is a single message of a user")
    return Benchmark(
        name="prompts",
        items=items,
        prompt="{prompt}",
        decoding=OPENING.model_copy(update={"max_new_tokens": 64}),
        parser="whole",
        scorer="scorer_model",
        metrics=("value", "repetition"),
        method="scalar",
        chat=True,
    )


def answers(data: Path, shots: int | None) -> Benchmark:
    """Held-out prompts whose right answer is known, asked as a policy with verified rewards is: the answer and nothing else.

    Greedy; with ``samples`` and a temperature also pass@k.
    """
    refuse_shots("answers", shots)
    path = find(data, PROMPTS)
    known = [(one, said, chat) for one, said, chat in _held_out(path) if one.answer]
    chats = {chat for *_, chat in known}
    if len(chats) != 1:
        raise MissingDataError(f"{path}: no held-out prompts with answers that are all text or all single messages of a user")
    items = tuple(Item(id=one.id, fields={"prompt": said}, target=one.answer or "", group=one.category) for one, said, _ in known)
    return Benchmark(
        name="answers",
        items=items,
        prompt="{prompt}",
        decoding=WORD.model_copy(update={"max_new_tokens": 16}),
        parser="whole",
        scorer="exact",
        metrics=("pass_at_1", "pass_at_10", "pass_at_100"),
        chat=chats == {True},
    )


BENCHMARKS = {
    "answers": answers,
    "held_out_text": held_out_text,
    "last_word": last_word,
    "openings": openings,
    "toxicity": toxicity,
    "prompts": prompts,
}
