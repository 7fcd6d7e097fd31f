"""Multiple choice: MMLU (Hendrycks et al. 2021), ARC (Clark et al. 2018), WinoGrande (Sakaguchi et al. 2020), TruthfulQA (Lin et al. 2022).

Prompts are those of lm-evaluation-harness, so that scores can be held against its own: MMLU by letter with the subject named first and five
examples of its dev set; ARC and TruthfulQA by the text of the option; WinoGrande by what follows the option in the sentence. TruthfulQA's six
questions that come first are read from the harness's own task file where it lies beside the data; MC2, the share of probability on all right
answers, needs a file that has them all. Also MMLU as a user meets it: letter generated (``mmlu_letter``), or explained first
(``mmlu_explained``); translated it is :mod:`modelyard.evals.catalog.translated`. Sets of other layouts are in
:mod:`modelyard.evals.catalog.more`. Any of them by generated letter or in chat is :mod:`modelyard.evals.ways`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from modelyard.evals.benchmark import NOTHING_DRAWN, Benchmark
from modelyard.evals.catalog.options import OptionRow, option_rows
from modelyard.evals.catalog.rows import find, load, own_file, taken
from modelyard.evals.item import Item
from modelyard.evals.ways import CLOSING, LETTERS, STARTS, THINK, THOUGHT
from modelyard.formats.json_file import Line, text_of
from modelyard.model.asked import Decoding

PRIMER = "truthfulqa/truthfulqa_mc1.yaml"
"""lm-evaluation-harness's task file, which holds the six questions and answers that come first."""


def lettered_question(row: OptionRow, label: str = "Answer:") -> str:
    """Question and lettered options, up to ``Answer:``."""
    options = "\n".join(f"{letter}. {text}" for letter, text in zip(LETTERS, row.choices, strict=False))
    return f"{row.question.strip()}\n{options}\n{label}"


def lettered_item(item_id: str, row: OptionRow, label: str = "Answer:") -> Item:
    """A question whose answer is a letter."""
    return Item(
        id=item_id,
        fields={"question": lettered_question(row, label)},
        target=row.letter,
        group=row.subject,
        choices=tuple(LETTERS[: len(row.choices)]),
        right=row.right,
        question=row.question,
    )


def mmlu_header(subject: str) -> str:
    """What stands before a subject's examples."""
    return f"The following are multiple choice questions (with answers) about {subject.replace('_', ' ')}.\n\n"


def mmlu(data: Path, shots: int | None, subject: str | None = None, opening: str = "") -> Benchmark:
    """All subjects, or one; each with the first five examples of its own dev set. ``opening``: stands before every question."""
    lines = load(data, "mmlu/fewshot.jsonl", "mmlu/**/all/dev*")
    source, examples = lines[0].where.rpartition(":")[0], option_rows(lines, lettered=True)
    rows = option_rows(load(data, "mmlu/test.jsonl", "mmlu/**/all/test*"), lettered=True)
    subjects = list(dict.fromkeys(row.subject for row in rows))
    if subject is not None and subject not in subjects:
        raise ValueError(f"mmlu has no subject {subject!r}; it has {', '.join(subjects)}")
    prefaces = {}
    for name in subjects if subject is None else [subject]:
        own = taken([row for row in examples if row.subject == name], 5 if shots is None else shots, source)
        shown = "".join(f"{opening}{lettered_question(row)} {row.letter}\n\n" for row in own)
        prefaces[name] = mmlu_header(name) + shown
    items = tuple(lettered_item(f"mmlu/{line}", row) for line, row in enumerate(rows) if row.subject in prefaces)
    name = "mmlu" if subject is None else f"mmlu_{subject}"
    return scored(name, items, f"{opening}{{question}}", "acc", prefaces)


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
    """MMLU with an explanation sampled at temperature 0.3, then the letter at 0.

    Its questions open with a word, by which a reply that runs on into the next one is known.
    """
    made = mmlu(data, shots, opening=f"{STARTS} ")
    change = {
        "name": "mmlu_explained",
        "method": "explain",
        "prompt": f"{made.prompt} {THINK}",
        "decoding": Decoding(max_new_tokens=THOUGHT, temperature=0.3, samples=1, seed=0, stops=(STARTS,)),
        "closing": CLOSING,
        "parser": "letter",
        "scorer": "exact",
        "metrics": ("acc", "parsed"),
    }
    return made.model_copy(update=change)


def by_text(name: str, rows: Sequence[OptionRow], examples: Sequence[OptionRow], prompt: str, scorer: str) -> Benchmark:
    """Every option's text is scored after the question; ``prompt`` has a field ``question``."""

    def items_of(some: Sequence[OptionRow], kind: str) -> tuple[Item, ...]:
        return tuple(
            Item(id=f"{kind}/{line}", fields={"question": row.question}, target=row.first, choices=row.choices, right=row.right)
            for line, row in enumerate(some)
        )

    shown = "".join(f"{prompt.format(question=row.question)} {row.first}\n\n" for row in examples)
    made = scored(name, items_of(rows, name), prompt, scorer, {"": shown})
    return made.model_copy(update={"examples": {"": items_of(examples, "example")}})


def arc(data: Path, shots: int | None, *, part: str) -> Benchmark:
    """ARC ``easy`` or ``challenge``, 0-shot unless told."""
    folder = f"arc/**/ARC-{part.capitalize()}"
    examples: Sequence[OptionRow] = []
    if shots or own_file(data, f"arc/fewshot_{part}.jsonl"):
        lines = load(data, f"arc/fewshot_{part}.jsonl", f"{folder}/train*")
        examples = taken(option_rows(lines), shots or 0, lines[0].where.rpartition(":")[0])
    rows = option_rows(load(data, f"arc/samples_{part}.jsonl", f"{folder}/test*"))
    return by_text(f"arc_{part}", rows, examples, "Question: {question}\nAnswer:", "acc" if part == "easy" else "acc_norm")


def truthfulqa(data: Path, shots: int | None, *, targets: str) -> Benchmark:
    """TruthfulQA: MC1 (the best answer is likeliest) or MC2 (share of probability on the right ones).

    The six questions that come first are answered in words: by letter the file's own example is shown in their place, if it has one.

    Raises:
        ValueError: MC2 of a file that has one right answer a question.
    """
    name, scorer = f"truthfulqa_{targets}", "acc" if targets == "mc1" else "mc2"
    rows = truthfulqa_rows(data, targets)
    if targets == "mc2" and all(len(row.right) == 1 for row in rows):
        raise ValueError(f"{rows[0].where}: one right answer a question, so no MC2; the Hub's truthful_qa (multiple_choice) has them all")
    count = shots if shots is not None else 1 if own_file(data, "truthfulqa/fewshot.jsonl") else 0
    source = find(data, "truthfulqa/fewshot.jsonl") if count else Path()
    examples = taken(option_rows(load(data, "truthfulqa/fewshot.jsonl")), count, source) if count else []
    made = by_text(name, rows, examples, "Q: {question}\nA:", scorer)
    if shots is None and (path := own_file(data, PRIMER)):
        return made.model_copy(update={"prefaces": {"": primer(path)}})
    return made


def truthfulqa_rows(data: Path, targets: str) -> list[OptionRow]:
    """Questions with the options of MC1 or MC2."""
    lines = load(data, "truthfulqa/samples.jsonl", "truthfulqa/**/multiple_choice/validation*")
    return option_rows([of_targets(line, f"{targets}_targets") for line in lines])


def of_targets(line: Line, key: str) -> Line:
    """A row of the Hub's file as one question with its right answers; any other row as it is."""
    targets = line.fields.get(key)
    if not isinstance(targets, dict) or not isinstance(targets.get("labels"), list):
        return line
    right = [place for place, label in enumerate(targets["labels"]) if label == 1]
    return Line(line.where, {"question": line.fields.get("question"), "choices": targets.get("choices"), "answer": right})


def primer(path: Path) -> str:
    """The questions and answers that come first, of the harness's task file. Raises ValueError naming the file without them."""
    import yaml

    try:
        template = yaml.safe_load(text_of(path))["doc_to_text"]
        (found,) = re.findall(r"prompt_qa = '(.*?)'\s*%}", template, re.S)
    except (yaml.YAMLError, KeyError, TypeError, ValueError):
        raise ValueError(f"{path}: holds no prompt_qa in doc_to_text, as lm-evaluation-harness's task of this name does") from None
    return f"{found.strip()}\n\n"


def winogrande(data: Path, shots: int | None) -> Benchmark:
    """Which name fits: the sentence up to and with each, then the likelihood of the rest."""
    rows = [sentence(line) for line in load(data, "winogrande/test.jsonl", "winogrande/**/winogrande_xl/validation*")]
    own: Sequence[OptionRow] = []
    if shots:
        lines = load(data, "winogrande/fewshot.jsonl", "winogrande/**/winogrande_xl/train*")
        own = taken([sentence(line) for line in lines], shots, lines[0].where.rpartition(":")[0])
    shown = "".join(f"{row.question.replace('_', row.first)}\n\n" for row in own)
    made = scored("winogrande", blanks(rows, "winogrande"), "{sentence}", "acc", {"": shown})
    return made.model_copy(update={"method": "contexts", "metrics": ("acc",), "examples": {"": blanks(own, "example")}})


def blanks(rows: Sequence[OptionRow], kind: str) -> tuple[Item, ...]:
    """Sentences with a blank, as the sentence up to and with each filling."""
    made = []
    for line, row in enumerate(rows):
        before, _, after = row.question.partition("_")
        choices = tuple(before + choice for choice in row.choices)
        made.append(Item(id=f"{kind}/{line}", fields={"sentence": row.question}, target=after.strip(), choices=choices, right=row.right))
    return tuple(made)


def sentence(line: Line) -> OptionRow:
    """A sentence with a blank and its two fillings. Raises ValueError naming the line."""
    where, row = line
    if lacking := [key for key in ("sentence", "option1", "option2", "answer") if not isinstance(row.get(key), str)]:
        raise ValueError(f"{where}: no {lacking[0]!r}")
    if "_" not in row["sentence"] or row["answer"] not in ("1", "2"):
        raise ValueError(f"{where}: a sentence without a blank, or an answer that is neither '1' nor '2'")
    return OptionRow(where, row["sentence"], (row["option1"], row["option2"]), (int(row["answer"]) - 1,), "", "")


BENCHMARKS: dict[str, Callable[[Path, int | None], Benchmark]] = {
    "mmlu": mmlu,
    "mmlu_letter": mmlu_letter,
    "mmlu_explained": mmlu_explained,
    "arc_easy": partial(arc, part="easy"),
    "arc_challenge": partial(arc, part="challenge"),
    "winogrande": winogrande,
    "truthfulqa_mc1": partial(truthfulqa, targets="mc1"),
    "truthfulqa_mc2": partial(truthfulqa, targets="mc2"),
}
FAMILIES = {"mmlu": mmlu}
