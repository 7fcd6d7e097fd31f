"""Worked answers: GSM8K (Cobbe et al. 2021), MATH (Hendrycks et al. 2021).

Chain of thought from fixed examples: the first eight of GSM8K's training set with its own ``####`` lines (``gsm8k``), or the eight of Wei et al.
(2022) as lm-evaluation-harness's task file holds them (``gsm8k_cot``); MATH's first four training problems with their solutions (``math``), or
Minerva's four as the harness's file holds them (``minerva_math``). Black-box parsing: the number or formula that the reply states. A reply ends
where the next question would begin, never at a blank line. GSM8K in other languages is :mod:`modelyard.evals.catalog.mgsm`, chain of thought for
BIG-Bench Hard :mod:`modelyard.evals.catalog.big_bench_hard`. Left out: votes over several solutions.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path

from modelyard.evals.benchmark import Benchmark
from modelyard.evals.catalog.rows import find, load, taken, text
from modelyard.evals.item import Item
from modelyard.formats.json_file import Line, text_of
from modelyard.judges.replies.equivalence import math_answer
from modelyard.judges.replies.numbers import final_number
from modelyard.model.asked import Decoding

MINERVA = "list_fewshot_samples"
"""The function of the harness's file that returns Minerva's solved problems."""
LONGEST, LONG = 320, 1024
"""Most new tokens of a solution: of GSM8K's; of BBH's and MATH's, as lm-evaluation-harness has it (for MATH in its ``leaderboard_math``)."""


def worked(
    name: str, items: tuple[Item, ...], prompt: str, prefaces: dict[str, str], stops: tuple[str, ...], parser: str, longest: int = LONGEST
) -> Benchmark:
    """Greedy generation of a solution of at most ``longest`` new tokens, judged by the answer it states."""
    scorer = {"final_number": "same_number", "math_answer": "equivalent"}.get(parser, "exact")
    return Benchmark(
        name=name,
        items=items,
        prompt=prompt,
        decoding=Decoding(max_new_tokens=longest, temperature=0.0, samples=1, seed=0, stops=stops),
        parser=parser,
        scorer=scorer,
        metrics=(scorer, "parsed"),
        prefaces=prefaces,
    )


def gsm8k_items(data: Path) -> tuple[Item, ...]:
    """The test problems with their numbers."""
    lines = load(data, "gsm8k/test.jsonl", "gsm8k/**/main/test*")
    return tuple(
        Item(id=f"gsm8k/{place}", fields={"question": text(line, "question")}, target=final_number(text(line, "answer")))
        for place, line in enumerate(lines)
    )


def gsm8k(data: Path, shots: int | None) -> Benchmark:
    """Grade-school problems, 8-shot, with the solutions of the training set."""
    count = 8 if shots is None else shots
    shown = ""
    if count:
        lines = load(data, "gsm8k/train.jsonl", "gsm8k/**/main/train*")
        own = taken(lines, count, lines[0].where.rpartition(":")[0])
        shown = "".join(f"Question: {text(line, 'question')}\nAnswer: {text(line, 'answer')}\n\n" for line in own)
    return worked("gsm8k", gsm8k_items(data), "Question: {question}\nAnswer:", {"": shown}, ("Question:",), "final_number")


def gsm8k_cot(data: Path, shots: int | None) -> Benchmark:
    """Grade-school problems after the eight solved ones of Wei et al. 2022, of the harness's task file ``gsm8k/gsm8k-cot.yaml``.

    Raises:
        ValueError: the file is missing or holds no solved problems.
    """
    import yaml

    path = find(data, "gsm8k/gsm8k-cot.yaml")
    try:
        samples = yaml.safe_load(text_of(path))["fewshot_config"]["samples"]
        own = [(str(one["question"]), str(one["target"])) for one in samples]
    except (yaml.YAMLError, KeyError, TypeError):
        raise ValueError(f"{path}: no fewshot_config.samples of question and target, as lm-evaluation-harness's gsm8k_cot has") from None
    chosen = taken(own, 8 if shots is None else shots, path)
    shown = "".join(f"Q: {question}\nA: {solution}\n\n" for question, solution in chosen)
    return worked("gsm8k_cot", gsm8k_items(data), "Q: {question}\nA:", {"": shown}, ("Q:",), "final_number")


def maths(data: Path, shots: int | None) -> Benchmark:
    """MATH, 4-shot with the solutions of the training set; answers are compared by what they mean."""
    count = 4 if shots is None else shots
    own: Sequence[tuple[str, str]] = []
    if count:
        examples = load(data, "math/fewshot.jsonl", "math/**/train*")
        own = [solution(line)[:2] for line in taken(examples, count, examples[0].where.rpartition(":")[0])]
    return of_maths("math", data, own)


def minerva(data: Path, shots: int | None) -> Benchmark:
    """MATH after the four solved problems of Minerva (Lewkowycz et al. 2022), of the harness's ``minerva_math/utils.py``, which is never run.

    Raises:
        ValueError: the file is missing or holds no solved problems.
    """
    path = find(data, "math/minerva_math.py", "math/utils.py")
    try:
        found = [node for node in ast.walk(ast.parse(text_of(path))) if isinstance(node, ast.FunctionDef) and node.name == MINERVA]
        (samples,) = [ast.literal_eval(node.value) for node in found[0].body if isinstance(node, ast.Return) and node.value]
        own = [(str(one["problem"]), str(one["solution"])) for one in samples]
    except (SyntaxError, ValueError, IndexError, KeyError, TypeError, MemoryError, RecursionError):
        raise ValueError(f"{path}: no {MINERVA} that returns problems and solutions, as lm-evaluation-harness's minerva_math has") from None
    return of_maths("minerva_math", data, taken(own, 4 if shots is None else shots, path))


def of_maths(name: str, data: Path, solved: Sequence[tuple[str, str]]) -> Benchmark:
    """MATH's test problems after solved ones (problem and solution)."""
    shown = "".join(f"Problem:\n{problem}\n\nSolution: {worked_out}\n\n" for problem, worked_out in solved)
    items = []
    for place, line in enumerate(load(data, "math/samples.jsonl", "math/**/test*")):
        problem, _, answer = solution(line)
        kind = str(line.fields.get("type") or "")
        items.append(Item(id=f"math/{place}", fields={"question": problem}, target=answer, group=kind))
    prefaces = {item.group: shown for item in items}
    return worked(name, tuple(items), "Problem:\n{question}\n\nSolution:", prefaces, ("Problem:",), "math_answer", LONG)


def solution(line: Line) -> tuple[str, str, str]:
    """Problem, solution and answer, which a solution's last box holds. Raises ValueError naming the line without one."""
    worked_out = str(line.fields.get("solution") or "")
    answers = line.fields.get("answers") or line.fields.get("answer")
    answer = str(answers[0] if isinstance(answers, list) else answers or "") or math_answer(worked_out)
    if not answer:
        raise ValueError(f"{line.where}: neither an answer nor a solution that boxes one")
    return text(line, "problem", "question"), worked_out or f"The final answer is $\\boxed{{{answer}}}$.", answer


BENCHMARKS = {"gsm8k": gsm8k, "gsm8k_cot": gsm8k_cot, "math": maths, "minerva_math": minerva}
