"""MMLU in other languages, as many as there are files of (GPT-4 report, section 4 and appendix F).

Three examples of the subject's dev set in the same language; letters, ``Answer`` and the header stay English, as in the
report. ``mmlu_translated`` asks all languages, ``mmlu_translated_de`` one; a group is ``language/subject``, and groups are
also averaged by language. Files are those of Global-MMLU (a folder a language, ``dev`` and ``test``) or of MMMLU (a CSV a
language, which has no examples: ask it with ``shots = 0``), or ``mmlu_translated/{language}/test.jsonl`` beside
``fewshot.jsonl``. Left out: translating.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from modelyard.evals.benchmark import Benchmark
from modelyard.evals.catalog.choice import lettered_item, lettered_question, mmlu_header, scored
from modelyard.evals.catalog.options import OptionRow, option_row
from modelyard.evals.catalog.rows import MissingDataError, lines_of, published, taken
from modelyard.formats.json_file import Line

FOLDER = "mmlu_translated"
SHOTS = 3
OPTIONS = ("option_a", "option_b", "option_c", "option_d")


def mmlu_translated(data: Path, shots: int | None, language: str | None = None) -> Benchmark:
    """Every language, or one.

    Raises:
        ValueError: there is no such language, or it has fewer examples than are to be shown.
    """
    found = languages(data)
    if not found:
        raise MissingDataError(f"missing data: none of {FOLDER}/LANGUAGE/test*, {FOLDER}/**/mmlu_LANGUAGE.csv in {data}")
    codes = {code.lower().replace("-", "_"): code for code in found}
    if language is not None and language not in codes:
        raise ValueError(f"{FOLDER} has no language {language!r}; it has {', '.join(sorted(codes))}")
    items, prefaces = [], dict[str, str]()
    for code in sorted(found) if language is None else [codes[language]]:
        tests, examples = found[code]
        rows = [row for path in tests for row in rows_of(path)]
        solved = [row for path in examples for row in rows_of(path)]
        for subject in dict.fromkeys(row.subject for row in rows):
            own = [row for row in solved if row.subject == subject]
            shown = taken(own, SHOTS if shots is None else shots, f"{FOLDER}/{code} ({subject})")
            prefaces[f"{code}/{subject}"] = mmlu_header(subject) + "".join(f"{lettered_question(row)} {row.letter}\n\n" for row in shown)
        for place, row in enumerate(rows):
            items.append(lettered_item(f"{FOLDER}/{code}/{place}", row).model_copy(update={"group": f"{code}/{row.subject}"}))
    return scored(FOLDER if language is None else f"{FOLDER}_{language}", tuple(items), "{question}", "acc", prefaces)


def languages(data: Path) -> dict[str, tuple[list[Path], list[Path]]]:
    """Language -> its files of questions and of examples."""
    found: dict[str, tuple[list[Path], list[Path]]] = {}
    for test in published(data, f"{FOLDER}/**/test*"):
        folder = test.parent
        examples = [path for pattern in ("fewshot*", "dev*") for path in published(folder, pattern)]
        tests, _ = found.setdefault(folder.name, ([], examples))
        tests.append(test)
    for path in published(data, f"{FOLDER}/**/mmlu_*.csv"):
        found.setdefault(path.stem.removeprefix("mmlu_"), ([path], []))
    return found


def rows_of(path: Path) -> Iterator[OptionRow]:
    """The questions of a file under whichever of the sets' field names."""
    for where, row in lines_of(path):
        named = {key.lower() if len(key) > 1 else key: value for key, value in row.items()}
        if "option_a" in named:
            named["choices"] = [named.get(key) for key in OPTIONS]
        yield option_row(Line(where, named), ("question",), lettered=True)


BENCHMARKS: dict[str, Callable[[Path, int | None], Benchmark]] = {FOLDER: mmlu_translated}
FAMILIES = {FOLDER: mmlu_translated}
