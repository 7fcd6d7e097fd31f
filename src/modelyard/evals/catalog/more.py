"""The sets of GPT-Fathom (arXiv:2309.16583, table 1) that have no reader of their own: question answering, options by text, options by letter.

One layout for all: ``{set}/samples.jsonl`` and ``{set}/fewshot.jsonl`` with ``question``, an optional ``context``, and ``choices`` with
``answer`` (an index), or ``answers`` (texts, any of which is right). Nothing of them is shipped; where the files are missing the error names
them. Left out: MATH's equivalence of LaTeX (answers are compared as text).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from modelyard.evals.benchmark import Benchmark, Item
from modelyard.evals.catalog.choice import LETTERS, by_text, mmlu_question, scored
from modelyard.evals.catalog.reasoning import worked
from modelyard.evals.catalog.rows import Row, find, jsonl, taken
from modelyard.model.asked import Decoding


def asked(row: Row) -> str:
    """Context and question."""
    context = f"{row['context'].strip()}\n" if row.get("context") else ""
    return f"{context}Question: {row['question'].strip()}\nAnswer:"


def bare(row: Row) -> str:
    """Context and question without the words around them: what training sets are searched for."""
    return f"{row.get('context') or ''}\n{row['question']}".strip()


def read(data: Path, name: str, shots: int, *keys: str) -> tuple[list[Row], list[Row]]:
    """Items and the examples shown before each."""
    rows = jsonl(find(data, f"{name}/samples.jsonl"), "question", *keys)
    if not shots:
        return rows, []
    source = find(data, f"{name}/fewshot.jsonl")
    return rows, list(taken(jsonl(source, "question", *keys), shots, source))


def open_answer(data: Path, shots: int | None, *, name: str, usual_shots: int, scorer: str) -> Benchmark:
    """A short answer, compared with each right one after normalising."""
    rows, examples = read(data, name, usual_shots if shots is None else shots, "answers")
    items = tuple(
        Item(
            id=f"{name}/{line}",
            fields={"question": asked(row)},
            target="\n".join(row["answers"]),
            question=bare(row),
        )
        for line, row in enumerate(rows)
    )
    return Benchmark(
        name=name,
        items=items,
        prompt="{question}",
        decoding=Decoding(max_new_tokens=32, temperature=0.0, samples=1, seed=0, stops=("\n",)),
        parser="whole",
        scorer=scorer,
        metrics=(scorer, "parsed"),
        prefaces={"": "".join(f"{asked(row)} {row['answers'][0]}\n\n" for row in examples)},
    )


def option_text(data: Path, shots: int | None, *, name: str, usual_shots: int) -> Benchmark:
    """The likeliest option by its text, a character (HellaSwag)."""
    rows, examples = read(data, name, usual_shots if shots is None else shots, "choices", "answer")
    return by_text(name, rows, examples, ("Question:", "Answer:"), "acc_norm")


def option_letter(data: Path, shots: int | None, *, name: str, usual_shots: int) -> Benchmark:
    """The likeliest letter, after the options (RACE, AGIEval, C-Eval)."""
    rows, examples = read(data, name, usual_shots if shots is None else shots, "choices", "answer")

    def question(row: Row) -> str:
        return (f"{row['context'].strip()}\n" if row.get("context") else "") + mmlu_question(row)

    items = tuple(
        Item(
            id=f"{name}/{line}",
            fields={"question": question(row)},
            target=LETTERS[row["answer"]],
            choices=tuple(LETTERS[: len(row["choices"])]),
            right=(row["answer"],),
            question=bare(row),
        )
        for line, row in enumerate(rows)
    )
    shown = "".join(f"{question(row)} {LETTERS[row['answer']]}\n\n" for row in examples)
    return scored(name, items, "{question}", "acc", {"": shown})


def maths(data: Path, shots: int | None) -> Benchmark:
    """MATH, 4-shot chain of thought; the examples' ``solution`` ends in ``So the answer is``."""
    rows, examples = read(data, "math", 4 if shots is None else shots, "answers")
    items = tuple(Item(id=f"math/{line}", fields={"question": row["question"]}, target=row["answers"][0]) for line, row in enumerate(rows))
    shown = "".join(f"Q: {row['question']}\nA: {row.get('solution', '')} So the answer is {row['answers'][0]}.\n\n" for row in examples)
    return worked("math", items, "Q: {question}\nA:", {"": shown}, ("\n\nQ:", "\nQ:"), "stated_answer")


OPEN = {
    "natural_questions": (1, "any_exact"),
    "web_questions": (1, "any_exact"),
    "trivia_qa": (1, "any_exact"),
    "drop": (3, "any_f1"),
    "tydi_qa": (1, "any_f1"),
}
LETTER = {"race_m": 1, "race_h": 1, "agieval_en": 3, "agieval_zh": 3, "c_eval": 5}

BENCHMARKS: dict[str, Callable[[Path, int | None], Benchmark]] = {
    **{name: partial(open_answer, name=name, usual_shots=count, scorer=scorer) for name, (count, scorer) in OPEN.items()},
    **{name: partial(option_letter, name=name, usual_shots=count) for name, count in LETTER.items()},
    "hellaswag": partial(option_text, name="hellaswag", usual_shots=1),
    "math": maths,
}
