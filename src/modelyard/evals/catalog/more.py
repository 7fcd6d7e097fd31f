"""Options in the forms of their papers and of lm-evaluation-harness: HellaSwag, RACE, AGIEval, C-Eval.

HellaSwag is an activity and a beginning, its ending scored a character; RACE an article whose earlier questions are solved
and whose last is asked, by the text of the option; AGIEval a question that brings its own wording; C-Eval a subject's
header, its own examples and ``\u7b54\u6848\uff1a``. Files are the Hub's (``hellaswag/**/validation*``) or ``{set}/samples.jsonl`` and
``{set}/fewshot.jsonl`` with ``question``, ``choices``, ``answer`` and, where there is one, ``context`` and ``subject``.
Nothing of them is shipped. Short answers are :mod:`modelyard.evals.catalog.short_answers`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path

from modelyard.evals.benchmark import Benchmark
from modelyard.evals.catalog.choice import by_text, lettered_item, lettered_question, scored
from modelyard.evals.catalog.options import OptionRow, option_row, option_rows, without_options
from modelyard.evals.catalog.rows import load, taken
from modelyard.evals.item import Item
from modelyard.formats import json_file
from modelyard.formats.json_file import Line

C_EVAL_HEADER = (
    "\u4ee5\u4e0b\u662f\u4e2d\u56fd\u5173\u4e8e{}\u7684\u5355\u9879\u9009\u62e9\u9898\uff0c"
    "\u8bf7\u9009\u51fa\u5176\u4e2d\u7684\u6b63\u786e\u7b54\u6848\u3002\n\n"
)
"""Multiple-choice questions about a subject of China's exams; choose the right answer."""
IN_WORDS = "an answer in words, and no options"
"""Why AGIEval's math and gaokao-mathcloze are left out."""


def hellaswag(data: Path, shots: int | None) -> Benchmark:
    """The likeliest ending by its text, a character."""
    rows = [ending(line) for line in load(data, "hellaswag/samples.jsonl", "hellaswag/**/validation*")]
    examples: Sequence[OptionRow] = []
    if count := 1 if shots is None else shots:
        lines = load(data, "hellaswag/fewshot.jsonl", "hellaswag/**/train*")
        examples = taken([ending(line) for line in lines[:count]], count, lines[0].where)
    return by_text("hellaswag", rows, examples, "{question}", "acc_norm")


def ending(line: Line) -> OptionRow:
    """Activity, beginning and cleaned endings; a row without ``ctx_a`` brings its question ready."""
    where, row = line
    if "ctx_a" not in row:
        return option_row(line, ("question",), lettered=False)
    question = f"{row.get('activity_label')}: {row['ctx_a']} {str(row.get('ctx_b') or '').capitalize()}"
    found = option_row(Line(where, {**row, "question": question}), ("question",), lettered=False)
    return found._replace(question=cleaned(question), choices=tuple(map(cleaned, found.choices)))


def cleaned(text: str) -> str:
    """Without WikiHow's marks: a title begins a sentence, other brackets go."""
    return re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". ")).replace("  ", " ")


def race(data: Path, shots: int | None, *, name: str, part: str) -> Benchmark:
    """The last question of each article after the earlier ones with their answers, by the text of the option."""
    rows = articles(load(data, f"{name}/samples.jsonl", f"race/**/{part}/test*"))
    examples: Sequence[OptionRow] = []
    if shots:
        lines = load(data, f"{name}/fewshot.jsonl", f"race/**/{part}/train*")
        examples = taken(articles(lines), shots, lines[0].where)
    return by_text(name, rows, examples, "{question}", "acc")


def articles(lines: Sequence[Line]) -> list[OptionRow]:
    """One row an article: its last question, after the article and its solved ones."""
    rows = [row for line in lines for row in problems(line)]
    made = []
    for article, group in groupby(rows, lambda row: row.context):
        *solved, last = group
        text = "".join(solved_problem(row) for row in solved)
        made.append(last._replace(question=f"Article: {article}\n\n{text}{last.question}"))
    return made


def problems(line: Line) -> list[OptionRow]:
    """The questions of a row: one, or all of its article as a list written out. Raises ValueError naming the line."""
    where, row = line
    if "problems" not in row:
        return [option_row(line, ("question",), lettered=False)]
    listed = row["problems"]
    try:
        found = ast.literal_eval(listed) if isinstance(listed, str) else listed
        return [option_row(Line(where, {**one, "article": row.get("article")}), ("question",), lettered=False) for one in found]
    except (SyntaxError, TypeError) as error:
        raise ValueError(f"{where}: problems: not a list of questions ({type(error).__name__})") from None


def solved_problem(row: OptionRow) -> str:
    """A sentence to complete with its completion, or a question with its answer."""
    if row.question.endswith("  _  ."):
        return f"{row.question[:-5]}{row.first}\n"
    return f"Question: {row.question}\nAnswer: {row.first}\n"


def agieval(data: Path, shots: int | None, *, name: str) -> Benchmark:
    """A question in its own wording, its options by likelihood; rows without one in MMLU's form. Examples are of the row's subject, groups are exams.

    Raises:
        ValueError: shots of questions in their own wording, or no row with options.
    """
    lines = load(data, f"{name}/samples.jsonl", f"{name}/**/test*")
    choosing = [line for line in lines if not without_options(line)]
    if not choosing:
        raise ValueError(f"{lines[0].where}: no options, as all rows of its files")
    own_words = any("query" in line.fields for line in choosing)
    if own_words and shots:
        raise ValueError(f"{name} has no examples to show: its questions come in wordings of their own")
    found = option_rows(choosing, question=("query",)) if own_words else option_rows(choosing, lettered=True)
    rows = [row._replace(subject=row.subject or exam_of(row.where, data / name)) for row in found]
    if own_words:
        made = by_text(name, rows, (), "{question}", "acc")
        items = tuple(item.model_copy(update={"group": row.subject}) for item, row in zip(made.items, rows, strict=True))
        made = made.model_copy(update={"items": items, "prefaces": {}})
    else:
        made = lettered(data, 3 if shots is None else shots, name, rows, f"{name}/fewshot.jsonl")
    count = len(lines) - len(choosing)
    return made.model_copy(update={"left_out": {IN_WORDS: count}}) if count else made


def exam_of(where: str, root: Path) -> str:
    """The exam of a row: its folder below the set's (``agieval-lsat-ar``), or what its file is called beside ``test``; "" for none."""
    path = Path(where.rpartition(":")[0]).relative_to(root)
    if folders := [part for part in path.parts[:-1] if part != "data"]:
        return folders[0]
    return re.sub(r"^(?:test|samples)[-_.]?|-?\d{5}-of-\d{5}$|-?\d+$", "", path.name.partition(".")[0])


def c_eval(data: Path, shots: int | None) -> Benchmark:
    """Each subject with its Chinese name (of ``subject_mapping.json``) and five examples of its dev set."""
    lines = [with_subject(line) for line in load(data, "c_eval/samples.jsonl", "c_eval/**/val*")]
    path = data / "c_eval" / "subject_mapping.json"
    names = {key: value[1] for key, value in json_file.table(path).items()} if path.is_file() else {}
    rows = option_rows(lines, lettered=True)
    headers = {row.subject: C_EVAL_HEADER.format(names.get(row.subject, row.subject)) for row in rows}
    return lettered(
        data, 5 if shots is None else shots, "c_eval", rows, "c_eval/fewshot.jsonl", "c_eval/**/dev*", headers, "\u7b54\u6848\uff1a"
    )


def with_subject(line: Line) -> Line:
    """A row with its subject: the folder of the Hub's file where the row names none."""
    folder = Path(line.where.rpartition(":")[0]).parent.name
    return Line(line.where, {**line.fields, "subject": line.fields.get("subject") or folder})


def lettered(
    data: Path,
    shots: int,
    name: str,
    rows: Sequence[OptionRow],
    own: str,
    hub: str = "",
    headers: dict[str, str] | None = None,
    label: str = "Answer:",
) -> Benchmark:
    """The likeliest letter after the options, with the first examples of the row's own subject, or of all where examples have none."""

    def asked(row: OptionRow) -> str:
        return (f"{row.context.strip()}\n" if row.context else "") + lettered_question(row, label)

    prefaces = headers or {row.subject: "" for row in rows}
    if shots:
        lines = [with_subject(line) if headers else line for line in load(data, own, *([hub] if hub else []))]
        examples = option_rows(lines, lettered=True)
        for subject, header in prefaces.items():
            mine = [row for row in examples if row.subject == subject] or [row for row in examples if not row.subject]
            shown = "".join(f"{asked(row)} {row.letter}\n\n" for row in taken(mine, shots, lines[0].where.rpartition(":")[0]))
            prefaces[subject] = header + shown
    items = tuple(with_context(lettered_item(f"{name}/{line}", row, label), row, asked(row)) for line, row in enumerate(rows))
    return scored(name, items, "{question}", "acc", prefaces)


def with_context(item: Item, row: OptionRow, asked: str) -> Item:
    """The item with its passage before it, which training sets are searched for too."""
    return item.model_copy(update={"fields": {"question": asked}, "question": f"{row.context}\n{row.question}".strip()})


BENCHMARKS: dict[str, Callable[[Path, int | None], Benchmark]] = {
    "hellaswag": hellaswag,
    "race_m": partial(race, name="race_m", part="middle"),
    "race_h": partial(race, name="race_h", part="high"),
    "agieval_en": partial(agieval, name="agieval_en"),
    "agieval_zh": partial(agieval, name="agieval_zh"),
    "c_eval": c_eval,
}
