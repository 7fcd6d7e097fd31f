"""Short answers: NaturalQuestions, WebQuestions, TriviaQA, DROP, TyDi QA, in the forms of lm-evaluation-harness.

A reply ends at its line's end (and, where answers are names, at the first full stop or comma); any right answer counts.
DROP (EleutherAI/drop) has its own F1 over aligned spans with numbers that must agree (Dua et al. 2019), TyDi QA labels,
examples and normalisation of each language. Files are the Hub's or ``{set}/samples.jsonl`` and ``{set}/fewshot.jsonl`` with
``question``, ``answers`` and, where there is one, ``context``. Left out: WebQuestions by likelihood of every alias.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from modelyard.evals.benchmark import Benchmark
from modelyard.evals.catalog.options import CONTEXT, first_of
from modelyard.evals.catalog.rows import load, taken, text
from modelyard.evals.item import Item
from modelyard.formats.json_file import Line
from modelyard.judges.replies.spans import SPANS
from modelyard.model.asked import Decoding


class Form(NamedTuple):
    """How a set is asked."""

    prompt: str
    """Template over ``question`` and ``context``."""
    splits: tuple[str, str]
    """Hub's patterns of items and of examples."""
    shots: int
    scorer: str
    stops: tuple[str, ...]
    header: str = ""
    between: str = "\n\n"
    """After each solved example."""
    delimiter: str = " "
    """Between a prompt and its answer."""


class Asked(NamedTuple):
    """A question with its right answers, each of one or more spans."""

    id: str
    question: str
    context: str
    answers: tuple[tuple[str, ...], ...]


NAMES = ("\n", ".", ",")
FORMS = {
    "natural_questions": Form(
        "Q: {question}?\nA:",
        ("**/validation*", "**/train*"),
        1,
        "any_exact_ascii",
        NAMES,
        header="Answer these questions:\n\n",
        between="\n",
    ),
    "web_questions": Form("Question: {question}\nAnswer:", ("**/test*", "**/train*"), 1, "any_exact_ascii", NAMES),
    "trivia_qa": Form(
        "Question: {question}?\nAnswer:", ("**/rc.nocontext/validation*", "**/rc.nocontext/train*"), 1, "any_exact_ascii", NAMES
    ),
    "drop": Form("{context} {question}", ("**/validation*", "**/train*"), 3, "drop_f1", (".",), delimiter=""),
}
LABELS = {
    "arabic": (
        "\u0627\u0644\u0633\u064a\u0627\u0642",
        "\u0627\u0644\u0633\u0624\u0627\u0644",
        "\u0627\u0644\u0625\u062c\u0627\u0628\u0629",
    ),
    "bengali": ("\u09aa\u09cd\u09b0\u09b8\u0999\u09cd\u0997", "\u09aa\u09cd\u09b0\u09b6\u09cd\u09a8", "\u0989\u09a4\u09cd\u09a4\u09b0"),
    "english": ("Context", "Question", "Answer"),
    "finnish": ("Konteksti", "Kysymys", "Vastaus"),
    "indonesian": ("Konteks", "Pertanyaan", "Jawaban"),
    "japanese": ("\u6587\u8108", "\u8cea\u554f", "\u7b54\u3048"),
    "korean": ("\ub9e5\ub77d", "\uc9c8\ubb38", "\ub2f5\ubcc0"),
    "russian": (
        "\u041a\u043e\u043d\u0442\u0435\u043a\u0441\u0442",
        "\u0412\u043e\u043f\u0440\u043e\u0441",
        "\u041e\u0442\u0432\u0435\u0442",
    ),
    "swahili": ("Muktadha", "Swali", "Jibu"),
    "telugu": (
        "\u0c38\u0c02\u0c26\u0c30\u0c4d\u0c2d\u0c02",
        "\u0c2a\u0c4d\u0c30\u0c36\u0c4d\u0c28",
        "\u0c38\u0c2e\u0c3e\u0c27\u0c3e\u0c28\u0c02",
    ),
    "thai": ("\u0e1a\u0e23\u0e34\u0e1a\u0e17", "\u0e04\u0e33\u0e16\u0e32\u0e21", "\u0e04\u0e33\u0e15\u0e2d\u0e1a"),
}
"""Language of TyDi QA -> its words for context, question and answer."""


def scored(line: Line) -> Asked:
    """One row whose answers are scored. Raises ValueError as :func:`asked`, and where alternatives and spans cannot be told apart."""
    if "answers_spans" in line.fields:
        raise ValueError(
            f"{line.where}: answers_spans: lists other annotators' answers like further spans of one; take EleutherAI/drop, which has them apart"
        )
    return asked(line)


def asked(line: Line) -> Asked:
    """One row. Raises ValueError naming the line without a question or an answer, or with answers of an unknown form."""
    try:
        answers = right_answers(line.fields)
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise ValueError(f"{line.where}: answers: of no known form ({type(error).__name__})") from None
    if not any(span.strip() for spans in answers for span in spans):
        raise ValueError(f"{line.where}: answers: no right answer")
    context = first_of(line.fields, CONTEXT)
    return Asked(str(line.fields.get("id") or ""), text(line, "question").strip(), str(context or "").strip(), answers)


def right_answers(row: dict[str, Any]) -> tuple[tuple[str, ...], ...]:
    """The right answers of a row, whatever set it is of; of TriviaQA its aliases alone, as lm-evaluation-harness counts."""
    if "answers_spans" in row:
        found = row["answers_spans"]
        return (tuple(map(str, found["spans"] if isinstance(found, dict) else listed(found))),)
    given = row.get("answers", row.get("answer"))
    if isinstance(given, dict) and "number" in given:  # DROP with what its validators said
        every = [given, *validated(row.get("validated_answers") or [])]
        return tuple(dict.fromkeys(of_drop(one) for one in every if any(of_drop(one))))
    if isinstance(given, dict):  # SQuAD's and TriviaQA's
        given = given.get("text") or given.get("aliases") or [given.get("value")]
    return tuple((str(one),) for one in (given if isinstance(given, list) else [given]) if one is not None)


def listed(value: object) -> list[Any]:
    """A list as it is. Raises TypeError for anything else: a text is no list of its letters."""
    if not isinstance(value, list):
        raise TypeError(f"{type(value).__name__} is no list")
    return value


def validated(answers: dict[str, list[Any]] | list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The answers of DROP's validators, from a list of them (JSON lines) or from one list a field (Parquet)."""
    if isinstance(answers, dict):
        return [dict(zip(answers, values, strict=True)) for values in zip(*answers.values(), strict=True)]
    return listed(answers)


def of_drop(answer: dict[str, Any]) -> tuple[str, ...]:
    """A number, spans, or a date as day, month and year."""
    if answer.get("number"):
        return (str(answer["number"]),)
    if answer.get("spans"):
        return tuple(map(str, listed(answer["spans"])))
    date = answer.get("date") or {}
    return (" ".join(str(date.get(key) or "") for key in ("day", "month", "year")).strip(),)


def short_answer(data: Path, shots: int | None, *, name: str) -> Benchmark:
    """A short answer, compared with each right one."""
    form = FORMS[name]
    rows = [scored(line) for line in load(data, f"{name}/samples.jsonl", f"{name}/{form.splits[0]}")]
    shown = form.header
    if count := form.shots if shots is None else shots:
        lines = load(data, f"{name}/fewshot.jsonl", f"{name}/{form.splits[1]}")
        shown += solved([asked(line) for line in taken(lines, count, f"{name}'s examples")], form)
    return drawn(name, [item(f"{name}/{place}", row) for place, row in enumerate(rows)], form, {"": shown})


def item(item_id: str, row: Asked, group: str = "") -> Item:
    """A question; right answers one a line, spans of one answer set apart by :data:`SPANS`."""
    target = "\n".join(SPANS.join(span.replace("\n", " ") for span in spans) for spans in row.answers)
    fields = {"question": row.question, "context": row.context}
    return Item(id=item_id, fields=fields, target=target, group=group, question=f"{row.context}\n{row.question}".strip())


def solved(examples: Sequence[Asked], form: Form) -> str:
    """Examples with their first answers."""
    return "".join(
        f"{form.prompt.format(question=one.question, context=one.context)}{form.delimiter}{','.join(one.answers[0])}{form.between}"
        for one in examples
    )


def drawn(name: str, items: Sequence[Item], form: Form, prefaces: dict[str, str]) -> Benchmark:
    """The benchmark of a form."""
    return Benchmark(
        name=name,
        items=tuple(items),
        prompt=form.prompt,
        decoding=Decoding(max_new_tokens=32, temperature=0.0, samples=1, seed=0, stops=form.stops),
        parser="whole",
        scorer=form.scorer,
        metrics=(form.scorer, "parsed"),
        prefaces=prefaces,
    )


def tydi_qa(data: Path, shots: int | None) -> Benchmark:
    """Gold passages of every language, with its own words, examples and F1 (characters where no spaces are written)."""
    form = Form("{question}", ("**/secondary_task/validation*", "**/secondary_task/train*"), 1, "any_f1_words", ("\n",))
    rows = [asked(line) for line in load(data, "tydi_qa/samples.jsonl", f"tydi_qa/{form.splits[0]}")]
    examples: list[Asked] = []
    if count := form.shots if shots is None else shots:
        examples = [asked(line) for line in load(data, "tydi_qa/fewshot.jsonl", f"tydi_qa/{form.splits[1]}")]
    items, prefaces = [], {}
    for place, row in enumerate(rows):
        language = language_of(row)
        if language not in prefaces:
            own = taken([one for one in examples if language_of(one) == language], count, f"tydi_qa ({language})") if count else []
            prefaces[language] = "".join(f"{labelled(one, language)} {one.answers[0][0]}\n\n" for one in own)
        made = item(f"tydi_qa/{place}", row, language)
        items.append(made.model_copy(update={"fields": {"question": labelled(row, language)}}))
    scorers = {"english": "any_f1_english", "arabic": "any_f1_arabic"}
    whole = drawn("tydi_qa", items, form, prefaces)
    return whole.model_copy(update={"group_scorers": {key: value for key, value in scorers.items() if key in prefaces}})


def language_of(row: Asked) -> str:
    """The language that a row's id begins with (``telugu-123-4``); English where it says none."""
    language = row.id.partition("-")[0]
    return language if language in LABELS else "english"


def labelled(row: Asked, language: str) -> str:
    """Context and question under the language's own words, up to where the answer begins."""
    context, question, answer = LABELS[language]
    return f"{context}: {row.context}\n\n{question}: {row.question}\n\n{answer}:"


BENCHMARKS: dict[str, Callable[[Path, int | None], Benchmark]] = {
    **{name: partial(short_answer, name=name) for name in FORMS},
    "tydi_qa": tydi_qa,
}
