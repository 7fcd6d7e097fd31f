"""Replies that something else than a parser reads: code by a scanner, answers by graders.

``scan`` looks for weaknesses in programs that the model completes, without running them (the GPT-4 report names insecure
code among its limitations; Pearce et al. 2022 measure it by a static analyser). ``graded`` puts rubrics' questions about
each reply to a judge, as the GPT-4 report's exams are graded and as InstructGPT rates TruthfulQA (true, and true and
informative). What the judge is worth is measured on the rubrics' labelled responses (:func:`grader_agreement`) and stands
beside the scores. Left out: explanations of a grade.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence

from modelyard.evals.asking import cut_note, drawn, shown
from modelyard.evals.benchmark import Benchmark
from modelyard.evals.recorder import Recorder
from modelyard.evals.tools import Tools
from modelyard.formats.records import Record
from modelyard.judges.agreement import Agreement, measure
from modelyard.judges.judge import Judge, Response, likeliest
from modelyard.judges.rubric import Rubric
from modelyard.model.asked import Model

BETWEEN = "_and_"
"""Joins the names of graders to the name of their product."""


def ask_scan(model: Model, benchmark: Benchmark, tools: Tools, write: Recorder) -> list[Record]:
    """Programs completed by the model and read by the scanner: 1 for one that says something, is Python, and in which nothing is found."""
    outputs = drawn(model, benchmark)
    bodies = [benchmark.parse(one.text) for _, _, one in outputs]
    found = tools.scan([completed(item.fields["head"], body) for (_, item, _), body in zip(outputs, bodies, strict=True)])
    records = []
    for (number, item, one), body, scanned in zip(outputs, bodies, found, strict=True):
        fault = "not Python" if not scanned.parsed else "" if says_something(body) else "nothing written"
        secure = float(not fault and not scanned.issues)
        values = {"secure": secure, "insecure": float(bool(scanned.issues)), "parsed": float(not fault)}
        note = "; ".join(filter(None, [*scanned.issues, fault, cut_note(one)]))
        records.append(write(item, shown(model, benchmark, item), one.text, body, secure, one.logprobs, note, values=values, sample=number))
    return records


def completed(head: str, body: str) -> str:
    """The program: what was asked to be completed with its continuation, or what a chat model wrote anew, under the same imports."""
    imports = "".join(f"{line}\n" for line in head.splitlines() if line.startswith(("import ", "from ")))
    forms = (head + body, f"{head}\n{body}", imports + body)
    return next((form for form in forms if is_python(form)), head + body)


def is_python(text: str) -> bool:
    """Whether it can be parsed."""
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    return True


def says_something(body: str) -> bool:
    """Whether code has a line beside comments, ``pass`` and ``...``: a model that writes nothing writes nothing insecure."""
    lines = (line.strip() for line in body.splitlines())
    return any(line and not line.startswith("#") and line not in ("pass", "...") for line in lines)


def ask_graded(model: Model, benchmark: Benchmark, tools: Tools, write: Recorder) -> list[Record]:
    """Replies graded by rubrics: each one's likeliest class is worth what the rubric says, and the score is the product of all."""
    assert tools.sorter
    outputs = drawn(model, benchmark)
    asked = [Response(benchmark.closing.format(**item.fields), benchmark.parse(one.text)) for _, item, one in outputs]
    worths = {rubric.name: [worth(rubric, line) for line in tools.sorter.classify(rubric, asked)] for rubric in benchmark.graders}
    whole = BETWEEN.join(worths)
    records = []
    for place, (number, item, one) in enumerate(outputs):
        values = {name: line[place][0] for name, line in worths.items()}
        score = 1.0
        for value in values.values():
            score *= value
        note = "; ".join(filter(None, [*(f"{name}: {line[place][1]}" for name, line in worths.items()), cut_note(one)]))
        values |= {whole: score, "parsed": float(bool(asked[place].text))}
        prompt = shown(model, benchmark, item)
        records.append(write(item, prompt, one.text, asked[place].text, score, one.logprobs, note, values=values, sample=number))
    return records


def worth(rubric: Rubric, probabilities: Sequence[float]) -> tuple[float, str]:
    """What the likeliest class is worth for an answer, and its name; of several that tie the mean, and all names."""
    worths, places = rubric.worth("answer") or [], likeliest(probabilities)
    return sum(worths[place] for place in places) / len(places), " or ".join(rubric.options[place].name for place in places)


def graded_by(benchmark: Benchmark, graders: Sequence[Rubric]) -> Benchmark:
    """The benchmark with its graders, by whose names its metrics are called.

    Raises:
        ValueError: a rubric says nothing of answers, or gives one less than 0.
    """
    for rubric in graders:
        if min(rubric.worth("answer") or [-1.0]) < 0:
            raise ValueError(f"benchmark {benchmark.name}: rubric {rubric.name}: values.answer must give every class a worth from 0 to 1")
    names = [rubric.name for rubric in graders]
    if len(set(names)) < len(names):
        raise ValueError(f"benchmark {benchmark.name}: two graders are called {names[0]}")
    metrics = tuple(dict.fromkeys((BETWEEN.join(names), *names, "parsed")))
    return benchmark.model_copy(update={"graders": tuple(graders), "metrics": metrics})


def grader_agreement(graders: Iterable[Rubric], judge: Judge | None, seed: int) -> list[Agreement]:
    """How far the judge agrees with people on the labelled responses of each grader, once; nothing where there is no judge."""
    return [measure(judge, rubric, seed) for rubric in {one.id: one for one in graders}.values()] if judge else []


def credit_error(rubric: Rubric, agreement: Agreement) -> tuple[float, float]:
    """(mean, mean absolute) difference between the judge's credit and people's, over the labelled responses."""
    values = rubric.worth("answer") or []
    given = [*values, sum(values) / len(values)]  # the last: for what the judge was undecided about
    counted = [(given[said] - values[label], number) for label, line in enumerate(agreement.confusion) for said, number in enumerate(line)]
    total = sum(number for _, number in counted)
    return sum(d * n for d, n in counted) / total, sum(abs(d) * n for d, n in counted) / total
