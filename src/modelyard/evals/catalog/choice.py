"""Multiple choice: MMLU (Hendrycks et al. 2021), ARC (Clark et al. 2018), WinoGrande (Sakaguchi et al. 2020), TruthfulQA (Lin et al. 2022).

Prompts are those of lm-evaluation-harness, so that scores can be held against its own: MMLU by letter with the subject named first and five
examples of its dev set; ARC and TruthfulQA by the text of the option; WinoGrande by what follows the option in the sentence. Where the file
gives one right answer a question, TruthfulQA's MC2 counts the mass of that one. Also MMLU as a user meets it: letter generated
(``mmlu_letter``), or explained first (``mmlu_explained``); and translated, three examples, letters and ``Answer`` in English (GPT-4 report,
section 4). Sets of other layouts are in :mod:`modelyard.evals.catalog.more`. Left out: chat prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from modelyard.evals.benchmark import NOTHING_DRAWN, Benchmark, Item
from modelyard.evals.catalog.rows import Row, find, jsonl, taken
from modelyard.model.asked import Decoding

LETTERS = "ABCDEFGHIJ"


def mmlu_question(row: Row) -> str:
    """Question and lettered options, up to ``Answer:``."""
    options = "\n".join(f"{letter}. {text}" for letter, text in zip(LETTERS, row["choices"], strict=False))
    return f"{row['question'].strip()}\n{options}\nAnswer:"


def mmlu(data: Path, shots: int | None, subject: str | None = None, *, folder: str = "mmlu", usual_shots: int = 5) -> Benchmark:
    """All subjects, or one; each with the first examples of its own dev set."""
    source = find(data, f"{folder}/fewshot.jsonl")
    examples = jsonl(source, "subject", "question", "choices", "answer")
    rows = jsonl(find(data, f"{folder}/test.jsonl"), "subject", "question", "choices", "answer")
    subjects = list(dict.fromkeys(row["subject"] for row in rows))
    if subject is not None and subject not in subjects:
        raise ValueError(f"mmlu has no subject {subject!r}; it has {', '.join(subjects)}")
    prefaces = {}
    for name in subjects if subject is None else [subject]:
        own = taken([row for row in examples if row["subject"] == name], usual_shots if shots is None else shots, source)
        shown = "".join(f"{mmlu_question(row)} {LETTERS[row['answer']]}\n\n" for row in own)
        prefaces[name] = f"The following are multiple choice questions (with answers) about {name.replace('_', ' ')}.\n\n{shown}"
    items = tuple(
        Item(
            id=f"{folder}/{line}",
            fields={"question": mmlu_question(row)},
            target=LETTERS[row["answer"]],
            group=row["subject"],
            choices=tuple(LETTERS[: len(row["choices"])]),
            right=(row["answer"],),
            question=row["question"],
        )
        for line, row in enumerate(rows)
        if row["subject"] in prefaces
    )
    name = folder if subject is None else f"{folder}_{subject}"
    return scored(name, items, "{question}", "acc", prefaces)


def scored(name: str, items: tuple[Item, ...], prompt: str, scorer: str, prefaces: dict[str, str]) -> Benchmark:
    """Multiple choice by log-probability, judged by ``scorer`` (acc, acc_norm or mc2)."""
    return Benchmark(
        name=name,
        items=items,
        prompt=prompt,
        decoding=NOTHING_DRAWN,
        parser="whole",
        scorer=scorer,
        metrics=tuple(dict.fromkeys((scorer, "acc", "acc_norm", "calibration_error"))),
        method="choices",
        prefaces=prefaces,
    )


def mmlu_letter(data: Path, shots: int | None) -> Benchmark:
    """MMLU with the letter generated and parsed from the text."""
    change = {
        "name": "mmlu_letter",
        "method": "generate",
        "decoding": Decoding(max_new_tokens=4, temperature=0.0, samples=1, seed=0, stops=("\n",)),
        "parser": "letter",
        "scorer": "exact",
        "metrics": ("exact", "parsed"),
    }
    return mmlu(data, shots).model_copy(update=change)


def mmlu_explained(data: Path, shots: int | None) -> Benchmark:
    """MMLU with an explanation sampled at temperature 0.3, then the letter at 0."""
    change = {
        "name": "mmlu_explained",
        "method": "explain",
        "prompt": "{question} Let's think step by step.",
        "decoding": Decoding(max_new_tokens=192, temperature=0.3, samples=1, seed=0, stops=("\n\n", "Question:")),
        "closing": "\nThe answer is",
        "parser": "letter",
        "scorer": "exact",
        "metrics": ("acc", "parsed"),
    }
    return mmlu(data, shots).model_copy(update=change)


def by_text(name: str, rows: Sequence[Row], examples: Sequence[Row], labels: tuple[str, str], scorer: str) -> Benchmark:
    """Question and answer in words; every option's text is scored."""
    ask, reply = labels
    shown = "".join(f"{ask} {row['question']}\n{reply} {row['choices'][row['answer']]}\n\n" for row in examples)
    items = tuple(
        Item(
            id=f"{name}/{line}",
            fields={"question": row["question"]},
            target=row["choices"][first],
            choices=tuple(row["choices"]),
            right=tuple(row["answer"]) if isinstance(row["answer"], list) else (row["answer"],),
        )
        for line, row in enumerate(rows)
        for first in [row["answer"][0] if isinstance(row["answer"], list) else row["answer"]]
    )
    return scored(name, items, f"{ask} {{question}}\n{reply}", scorer, {"": shown})


def arc(data: Path, shots: int | None, *, part: str) -> Benchmark:
    """ARC ``easy`` or ``challenge``, 0-shot unless told."""
    source = find(data, f"arc/fewshot_{part}.jsonl")
    examples = taken(jsonl(source, "question", "choices", "answer"), shots or 0, source)
    rows = jsonl(find(data, f"arc/samples_{part}.jsonl"), "question", "choices", "answer")
    return by_text(f"arc_{part}", rows, examples, ("Question:", "Answer:"), "acc" if part == "easy" else "acc_norm")


def truthfulqa(data: Path, shots: int | None, *, scorer: str) -> Benchmark:
    """TruthfulQA: MC1 (the best answer is likeliest) or MC2 (share of probability on the right ones)."""
    source = find(data, "truthfulqa/fewshot.jsonl")
    examples = taken(jsonl(source, "question", "choices", "answer"), 1 if shots is None else shots, source)
    rows = jsonl(find(data, "truthfulqa/samples.jsonl"), "question", "choices", "answer")
    name = "truthfulqa_mc1" if scorer == "acc" else "truthfulqa_mc2"
    return by_text(name, rows, examples, ("Q:", "A:"), scorer)


def winogrande(data: Path, shots: int | None) -> Benchmark:
    """Which name fits: the sentence up to and with each, then the likelihood of the rest."""
    rows = jsonl(find(data, "winogrande/test.jsonl"), "sentence", "option1", "option2", "answer")
    shown = ""
    if shots:
        source = find(data, "winogrande/fewshot.jsonl")
        own = taken(jsonl(source, "sentence", "option1", "option2", "answer"), shots, source)
        shown = "".join(f"{row['sentence'].replace('_', row['option' + row['answer']])}\n\n" for row in own)
    items = []
    for line, row in enumerate(rows):
        before, _, after = row["sentence"].partition("_")
        choices = (before + row["option1"], before + row["option2"])
        fields = {"sentence": row["sentence"]}
        items.append(Item(id=f"winogrande/{line}", fields=fields, target=after.strip(), choices=choices, right=(int(row["answer"]) - 1,)))
    made = scored("winogrande", tuple(items), "{sentence}", "acc", {"": shown})
    return made.model_copy(update={"method": "contexts", "metrics": ("acc",)})


BENCHMARKS: dict[str, Callable[[Path, int | None], Benchmark]] = {
    "mmlu": mmlu,
    "mmlu_letter": mmlu_letter,
    "mmlu_explained": mmlu_explained,
    "mmlu_translated": partial(mmlu, folder="mmlu_translated", usual_shots=3),
    "arc_easy": partial(arc, part="easy"),
    "arc_challenge": partial(arc, part="challenge"),
    "winogrande": winogrande,
    "truthfulqa_mc1": partial(truthfulqa, scorer="acc"),
    "truthfulqa_mc2": partial(truthfulqa, scorer="mc2"),
}
FAMILIES = {"mmlu": mmlu}
