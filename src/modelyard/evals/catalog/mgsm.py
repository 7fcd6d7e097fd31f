"""MGSM (Shi et al. 2023): 250 of GSM8K's test problems in ten languages, 8-shot chain of thought in the same language.

Read are our own files (``mgsm/samples_de.jsonl``, ``mgsm/fewshot_de.jsonl``), the Hub's repository as it is published (``mgsm_de.tsv``, a question
and a number a line without a header, with the examples of all languages in ``exemplars.py``, which is read as literals and never run), or its
Parquet (``de/test*``, ``de/train*`` with ``question``, ``answer``, ``answer_number``). Left out: English, which is GSM8K.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import NamedTuple

from modelyard.evals.benchmark import Benchmark
from modelyard.evals.catalog.reasoning import worked
from modelyard.evals.catalog.rows import MissingDataError, lines_of, own_file, published, taken, text
from modelyard.evals.item import Item
from modelyard.evals.ways import opening
from modelyard.formats.json_file import Line, text_of

GROUPED_BY_POINTS = ("de", "es", "fr", "ru")
"""Languages in which a point before three digits sets thousands apart."""
LANGUAGES = ("bn", "de", "es", "fr", "ja", "ru", "sw", "te", "th", "zh")


class Problem(NamedTuple):
    """A problem with its solution, or with the number alone."""

    question: str
    answer: str


def mgsm(data: Path, shots: int | None, language: str | None = None) -> Benchmark:
    """All languages, or one. Raises ValueError for a language that is not there, and for files that are missing or cannot be read."""
    if language is not None and language not in LANGUAGES:
        raise ValueError(f"mgsm has no language {language!r}; it has {', '.join(LANGUAGES)}")
    items: list[Item] = []
    prefaces, stops = {}, []
    for code in LANGUAGES if language is None else (language,):
        examples = solved(data, code)
        own = taken(examples, min(8, len(examples)) if shots is None else shots, f"mgsm's examples in {code!r}")
        prefaces[code] = "".join(f"{one.question}\n{one.answer}\n\n" for one in own)
        ask, reply = opening(examples[0].question), opening(examples[0].answer)
        stops.append(ask)
        for line, one in enumerate(problems(data, code)):
            fields = {"question": f"{ask} {one.question}\n{reply}"}
            items.append(Item(id=f"mgsm/{code}/{line}", fields=fields, target=one.answer, group=code, question=one.question))
    name = "mgsm" if language is None else f"mgsm_{language}"
    made = worked(name, tuple(items), "{question}", prefaces, tuple(filter(None, stops)), "final_number")
    return made.model_copy(update={"group_scorers": {code: "same_number_grouped" for code in prefaces if code in GROUPED_BY_POINTS}})


def solved(data: Path, code: str) -> list[Problem]:
    """The examples of a language, both texts with the words that open them (``Frage:``, ``Schritt-f\u00fcr-Schritt-Antwort:``)."""
    if files := _files(data, f"fewshot_{code}.jsonl", code, "train"):
        return [Problem(text(line, "question"), text(line, "answer")) for line in _rows(files)]
    if files := published_as(data, "exemplars.py"):
        return exemplars(files[0], code)
    raise MissingDataError(f"missing data: none of mgsm/fewshot_{code}.jsonl, mgsm/**/{code}/train*, mgsm/**/exemplars.py in {data}")


def problems(data: Path, code: str) -> list[Problem]:
    """The test problems of a language with their numbers."""
    if files := _files(data, f"samples_{code}.jsonl", code, "test"):
        return [Problem(text(line, "question"), number(line)) for line in _rows(files)]
    if files := published_as(data, f"mgsm_{code}.tsv"):
        return table(files[0])
    raise MissingDataError(f"missing data: none of mgsm/samples_{code}.jsonl, mgsm/**/{code}/test*, mgsm/**/mgsm_{code}.tsv in {data}")


def _files(data: Path, own: str, code: str, split: str) -> list[Path]:
    """Our own file, or the Hub's Parquet files of a split."""
    if path := own_file(data, f"mgsm/{own}"):
        return [path]
    return published(data, f"mgsm/**/{code}/{split}*") or published(data, f"mgsm/**/{code}/{split}/*")


def _rows(files: list[Path]) -> list[Line]:
    rows = [line for path in files for line in lines_of(path)]
    if not rows:
        raise ValueError(f"{files[0]}: no items")
    return rows


def published_as(data: Path, name: str) -> list[Path]:
    """Files of the Hub's repository by their name."""
    return sorted(path for path in data.glob(f"mgsm/**/{name}") if path.is_file())


def number(line: Line) -> str:
    """A problem's number: ``answer_number``, or in our own files ``answer``. Raises ValueError naming the line without one."""
    value = line.fields.get("answer_number")
    if value is None:
        return text(line, "answer")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{line.where}: answer_number: not a number but {type(value).__name__}")
    return f"{value:.10g}"


def table(path: Path) -> list[Problem]:
    """A question and a number a line, set apart by a tab. Raises ValueError naming the line that is none."""
    found = []
    for place, line in enumerate(text_of(path).rstrip("\r\n").split("\n"), 1):
        question, tab, answer = line.partition("\t")
        if not tab or not question.strip() or not answer.strip() or "\t" in answer:
            raise ValueError(f"{path}: line {place}: not a question, a tab and a number")
        found.append(Problem(question.strip(), answer.strip()))
    return found


def exemplars(path: Path, code: str) -> list[Problem]:
    """The examples of a language in ``MGSM_EXEMPLARS = {"de": {"1": {"q": ..., "a": ...}}}``. Raises ValueError where there are none."""
    try:
        assigned = {
            target.id: statement.value
            for statement in ast.parse(text_of(path)).body
            if isinstance(statement, ast.Assign)
            for target in statement.targets
            if isinstance(target, ast.Name)
        }
        numbered = ast.literal_eval(assigned["MGSM_EXEMPLARS"])[code]
        found = [Problem(str(numbered[key]["q"]), str(numbered[key]["a"])) for key in sorted(numbered, key=int)]
    except (SyntaxError, ValueError, KeyError, TypeError, MemoryError, RecursionError):
        found = []
    if not found:
        raise ValueError(f"{path}: no MGSM_EXEMPLARS with questions and answers in {code!r}, as the repository of MGSM has")
    return found


BENCHMARKS = {"mgsm": mgsm}
FAMILIES = {"mgsm": mgsm}
