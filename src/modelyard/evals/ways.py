"""A benchmark asked another way: through a chat template, or with the letter of an option generated and parsed.

Both ways are fields of the benchmark, so each has an id of its own. Multiple choice by likelihood needs log-probabilities
of texts, which chat models behind a server do not give; by letter any model can be asked, as GPT-Fathom
(arXiv:2309.16583) does. Options that have no letters get them, and where the right one always stands first they are
shuffled by the item's id. Left out: examples as turns of a conversation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from modelyard.evals.benchmark import Benchmark
from modelyard.evals.image_places import IMAGE
from modelyard.evals.item import Item
from modelyard.evals.metrics import OF_KINDS
from modelyard.evals.recorder import sha256_text
from modelyard.evals.scorers import CODE_STOPS
from modelyard.model.asked import ChooseBy, Decoding

LETTERS = "ABCDEFGHIJKLM"
COLONS = (":", "\uff1a")
STARTS = "Question:"
"""With which most questions open."""
WITH_OPTIONS = ("choices", "contexts")
LETTER = Decoding(max_new_tokens=32, temperature=0.0, samples=1, seed=0, stops=("\n",))
SHORT = ("any_exact_ascii", "drop_f1", "any_f1_words")
"""Scorers of answers of a few words, which plain text ends at a line's end or a full stop; a chat model writes ``Dr. Seuss`` in a sentence."""
SHORTLY = "Answer with the answer alone, in as few words as it takes.\n\n"
PLAIN_STOPS = {"letter": LETTER.stops, "function_body": CODE_STOPS}
"""Parser -> where a plain reply ends; a chat model may begin with a line of its own, or put what it says between fences."""
SEVERAL = "several right options, so no letter is the answer"
INSTRUCTION = "Answer with the letter of the right option.\n\n"
THINK, CLOSING, THOUGHT = "Let's think step by step.", "\nThe answer is", 192
"""What asks for an explanation, what then asks for the answer, and the longest explanation in tokens."""
PLAIN_ONLY = {
    "contexts": "reads what follows an option in a sentence; ask it by letter",
    "loss": "scores whole texts",
    "rows": "reads packed tokens",
    "next_token": "reads packed tokens",
}
"""Method -> why it has no chat form."""


def asked(benchmark: Benchmark, choose_by: ChooseBy | None, chat: bool | None, explain: bool = False, blank: bool = False) -> Benchmark:
    """The benchmark by letter or by likelihood, in chat or as plain text (None: as it is), explained first, or with its images grey.

    Raises:
        ValueError: what is asked for has no meaning for this benchmark.
    """
    if choose_by and benchmark.method not in WITH_OPTIONS:
        raise ValueError(f"benchmark {benchmark.name}: does not choose by likelihood, so choose_by has no meaning")
    if choose_by == "letter":
        benchmark = by_letter(benchmark)
    if explain:
        benchmark = explained(benchmark)
    if blank and not benchmark.seen:
        raise ValueError(f"benchmark {benchmark.name}: has no images, so blank has no meaning")
    if blank:
        benchmark = benchmark.model_copy(update={"blank": True})
    return benchmark if chat is None or chat == benchmark.chat else in_chat(benchmark, chat)


def in_chat(benchmark: Benchmark, chat: bool) -> Benchmark:
    """Asked in the model's chat template, or as plain text. Raises ValueError where it has only one of the two."""
    if chat and benchmark.method in PLAIN_ONLY:
        raise ValueError(f"benchmark {benchmark.name}: {PLAIN_ONLY[benchmark.method]}, so it has no chat form")
    if benchmark.method == "turns":
        raise ValueError(f"benchmark {benchmark.name}: is a conversation, so it has no plain form")
    update: dict[str, Any] = {"chat": chat}
    if benchmark.method in ("choices", "last_word", "word"):
        update["delimiter"] = "" if chat else " "
    if benchmark.parser in PLAIN_STOPS:
        room = LETTER.max_new_tokens if chat and benchmark.parser == "letter" else 0
        drawn = {"stops": () if chat else PLAIN_STOPS[benchmark.parser], "max_new_tokens": max(room, benchmark.decoding.max_new_tokens)}
        update["decoding"] = benchmark.decoding.model_copy(update=drawn)
    if chat and benchmark.parser == "whole" and benchmark.scorer in SHORT:
        groups = {item.group for item in benchmark.items}
        update["prefaces"] = {group: SHORTLY + benchmark.prefaces.get(group, "") for group in groups}
        update |= {"parser": "short_answer", "decoding": benchmark.decoding.model_copy(update={"stops": ()})}
    return benchmark.model_copy(update=update)


def explained(benchmark: Benchmark) -> Benchmark:
    """Chain of thought: an explanation is drawn, then the answer greedily. Raises ValueError where no text is drawn and parsed."""
    if benchmark.method != "generate":
        raise ValueError(f"benchmark {benchmark.name}: draws no answer that could be explained first; choose_by = 'letter' makes it one")
    drawn = benchmark.decoding.model_copy(update={"max_new_tokens": THOUGHT, "stops": next_question(benchmark)})
    update = {
        "method": "explain",
        "prompt": f"{benchmark.prompt} {THINK}",
        "closing": CLOSING,
        "decoding": drawn,
        "metrics": ("acc", "parsed"),
    }
    return benchmark.model_copy(update=update)


def next_question(benchmark: Benchmark) -> tuple[str, ...]:
    """What says that a reply has run on into a question of its own: the words up to a colon with which all prompts of a group open
    (``Question:``, ``Frage:``); where they open with none, the labels that close them (``Answer:``), behind which only the answer stands."""
    heads: dict[str, set[str]] = {}
    labels: dict[str, None] = {}
    for item in benchmark.items:
        prompt = benchmark.prompt.format(**item.fields).replace(IMAGE, "").strip()
        heads.setdefault(item.group, set()).add(opening(prompt))
        if (label := prompt.rpartition("\n")[2]).endswith(COLONS):
            labels[f"\n{label}"] = None
    openings = dict.fromkeys(next(iter(some)) for some in heads.values() if len(some) == 1)
    return tuple(filter(None, openings)) or (STARTS, *labels)


def opening(text: str) -> str:
    """The words with which a text opens, up to the colon: ``Frage:``; "" where it opens with none."""
    end = min((place for colon in COLONS if (place := text.find(colon)) >= 0), default=-1)
    head = text[: end + 1]
    return head if len(head) <= 40 and "\n" not in head else ""


def by_letter(benchmark: Benchmark) -> Benchmark:
    """Multiple choice with the letter generated and parsed; items with several right options are left out and counted.

    Raises:
        ValueError: most items have several right options, or one has more options than there are letters.
    """
    benchmark = of_one_letter(benchmark)
    if many := [item for item in benchmark.items if len(item.choices) > len(LETTERS)]:
        raise ValueError(
            f"benchmark {benchmark.name}: {many[0].id} has {len(many[0].choices)} options, and there are {len(LETTERS)} letters"
        )
    if all(item.choices == tuple(LETTERS[: len(item.choices)]) for item in benchmark.items):
        items, prompt = benchmark.items, benchmark.prompt
        prefaces = {item.group: INSTRUCTION + benchmark.prefaces.get(item.group, "") for item in items}
    else:
        shuffle = all(item.right == (0,) for item in benchmark.items)
        items, prompt = tuple(lettered(benchmark, item, shuffle) for item in benchmark.items), "{asked}"
        prefaces = {item.group: INSTRUCTION + solved(benchmark, benchmark.examples.get(item.group, ()), shuffle) for item in items}
    shown = {group: tuple(image for one in examples for image in one.images) for group, examples in benchmark.examples.items()}
    update = {
        "items": items,
        "prompt": prompt,
        "prefaces": prefaces,
        "preface_images": {group: images for group, images in shown.items() if images},
        "method": "generate",
        "decoding": LETTER,
        "parser": "letter",
        "scorer": "exact",
        "metrics": ("exact", "parsed", *(name for name in benchmark.metrics if name in OF_KINDS)),
    }
    return benchmark.model_copy(update=update)


def of_one_letter(benchmark: Benchmark) -> Benchmark:
    """The items of which one option is right. Raises ValueError where most have several: what is left would be another benchmark."""
    kept = tuple(item for item in benchmark.items if len(item.right) == 1)
    several = [item.id for item in benchmark.items if len(item.right) != 1]
    if len(several) > len(kept):
        raise ValueError(f"benchmark {benchmark.name}: {several[0]} has several right options, so no letter is the answer")
    left_out = {**benchmark.left_out, SEVERAL: len(several)} if several else benchmark.left_out
    return benchmark.model_copy(update={"items": kept, "left_out": left_out})


def lettered(benchmark: Benchmark, item: Item, shuffle: bool) -> Item:
    """An item whose options stand in the prompt: where it lists them itself, or before its last line (``Answer:``)."""
    order = list(range(len(item.choices)))
    own = lists_options(written := benchmark.prompt.format(**item.fields), item.choices)
    if shuffle and not own:
        order = np.random.default_rng(int(sha256_text(item.id)[:16], 16)).permutation(len(order)).tolist()
    texts = options(benchmark, item)
    listed = "\n".join(f"{letter}. {texts[place]}" for letter, place in zip(LETTERS, order, strict=False))
    head, _, label = written.rpartition("\n")
    if not head or not label.endswith(COLONS):  # the prompt ends with the question itself
        head, label = f"{head}\n{label}".strip(), "Answer:"
    right = order.index(item.right[0])
    return item.model_copy(
        update={
            "fields": {"asked": written if own else f"{head}\n{listed}\n{label}"},
            "question": benchmark.question_of(item),
            "choices": tuple(LETTERS[: len(order)]),
            "right": (right,),
            "target": LETTERS[right],
            "kinds": tuple(item.kinds[place] for place in order) if item.kinds else (),
        }
    )


def lists_options(prompt: str, choices: Sequence[str]) -> bool:
    """Whether a prompt lists its options already, each behind its letter: ``(A)x``, ``B. y``."""
    mark = r"[(\uff08]?{}\s*[).:\uff09\uff0e\uff1a\u3001]\s*"
    marks = [mark.format(letter) for letter in LETTERS[: len(choices)]]
    texts = [re.sub(rf"^\s*{one}", "", choice).strip() for one, choice in zip(marks, choices, strict=True)]
    return all(re.search(one + re.escape(text), prompt) for one, text in zip(marks, texts, strict=True))


def options(benchmark: Benchmark, item: Item) -> list[str]:
    """The texts of an item's options; of sentences that each completes, without what stands before."""
    if benchmark.method != "contexts":
        return list(item.choices)
    before = item.fields["sentence"].partition("_")[0]
    return [choice.removeprefix(before) for choice in item.choices]


def solved(benchmark: Benchmark, examples: Sequence[Item], shuffle: bool) -> str:
    """Examples with their letters."""
    shown = [lettered(benchmark, example, shuffle) for example in examples]
    return "".join(f"{one.fields['asked']} {one.target}\n\n" for one in shown)
