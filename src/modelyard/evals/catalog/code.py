"""Functions written to a description: HumanEval (Chen et al. 2021) and MBPP (Austin et al. 2021, sanitised or full), run in the sandbox.

HumanEval 0-shot, MBPP after three solved examples (its tasks 2, 3 and 4). Greedy pass@1 here; more samples at temperature 0.8 give pass@10
and pass@100 by the unbiased estimator. Left out: languages other than Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from modelyard.evals.benchmark import Benchmark
from modelyard.evals.catalog.rows import Row, load, own_file, refuse_shots, taken, text
from modelyard.evals.item import Item
from modelyard.evals.scorers import CODE_STOPS
from modelyard.formats.json_file import Line
from modelyard.judges.sandbox.run import of_asserts
from modelyard.model.asked import Decoding

PROBLEM = ("task_id", "prompt", "entry_point", "test", "canonical_solution")
OUTPUT = Decoding(max_new_tokens=320, temperature=0.0, samples=1, seed=0)
BODY = OUTPUT.model_copy(update={"stops": CODE_STOPS})
"""What goes on from its prompt, up to where a new statement begins (Chen et al. 2021, section 2.2)."""


def human_eval_item(row: Row) -> Item:
    """A problem: the prompt is the head of the program and defines what the tests may use."""
    prompt = str(row["prompt"])
    fields = {"prompt": prompt, "head": prompt, "setup": prompt, "entry_point": str(row["entry_point"]), "test": str(row["test"])}
    return Item(id=str(row["task_id"]), fields=fields, target=str(row["canonical_solution"]))


def human_eval(data: Path, shots: int | None) -> Benchmark:
    """164 functions to complete, from the set's own file or from a ``held_out`` artifact that carries it."""
    refuse_shots("human_eval", shots)
    carried = "benchmarks/human_eval.jsonl"
    own = carried if own_file(data, carried) else "human_eval/HumanEval.jsonl"
    rows = [{key: text(line, key) for key in PROBLEM} for line in load(data, own, "human_eval/**/test*")]
    return coded("human_eval", tuple(human_eval_item(row) for row in rows), BODY, "function_body", "")


def coded(name: str, items: tuple[Item, ...], decoding: Decoding, parser: str, shown: str) -> Benchmark:
    """Programs judged by their tests."""
    return Benchmark(
        name=name,
        items=items,
        prompt="{prompt}",
        decoding=decoding,
        parser=parser,
        scorer="unit_tests",
        metrics=("pass_at_1", "pass_at_10", "pass_at_100"),
        method="code",
        prefaces={"": shown},
    )


def mbpp_prompt(row: Row) -> str:
    """The task and its tests, up to where code begins."""
    tests = "\n".join(row["test_list"])
    return f"You are an expert Python programmer, and here is your task: {row['prompt']} Your code should pass these tests:\n\n{tests}\n[BEGIN]\n"


def mbpp_item(row: Row) -> Item:
    """A task; its asserts become ``check``, in which the function's own name calls the sandbox.

    Raises:
        ValueError: no function of the reference solution is called in the tests.
    """
    tests = "\n".join(row["test_list"])
    program = of_asserts("", row["code"], tests, "\n".join(row["test_imports"]))
    if program is None:
        raise ValueError(f"mbpp task {row['task_id']}: its tests call no function of the reference solution")
    fields = {
        "prompt": mbpp_prompt(row),
        "head": "",
        "setup": program.setup,
        "entry_point": program.entry_point,
        "test": program.test,
    }
    return Item(id=f"mbpp/{row['task_id']}", fields=fields, target=row["code"])


def mbpp(data: Path, shots: int | None) -> Benchmark:
    """257 short functions, 3-shot."""
    rows = load(data, "mbpp/test.jsonl", "mbpp/**/sanitized/test*")
    examples = load(data, "mbpp/fewshot.jsonl", "mbpp/**/sanitized/prompt*")
    return of_tasks("mbpp", rows, examples, shots)


def mbpp_full(data: Path, shots: int | None) -> Benchmark:
    """The 500 functions of the paper, after its tasks 2, 3 and 4."""
    prompts = load(data, "mbpp/full-prompt.jsonl", "mbpp/**/full/prompt*")
    examples = [line for line in prompts if line.fields.get("task_id") in (2, 3, 4)]
    return of_tasks("mbpp_full", load(data, "mbpp/full-test.jsonl", "mbpp/**/full/test*"), examples, shots)


def of_tasks(name: str, lines: Sequence[Line], examples: Sequence[Line], shots: int | None) -> Benchmark:
    """The tasks after the first examples."""
    shown = "".join(
        f"{mbpp_prompt(row)}{row['code']}\n[DONE]\n\n"
        for row in map(mbpp_row, taken(examples, 3 if shots is None else shots, f"{name}'s examples"))
    )
    decoding = OUTPUT.model_copy(update={"stops": ("[DONE]", "[BEGIN]", "\nYou are an expert")})
    return coded(name, tuple(mbpp_item(mbpp_row(line)) for line in lines), decoding, "program", shown)


def mbpp_row(line: Line) -> Row:
    """A task under the sanitised set's names (the full one says ``text`` and ``test_setup_code``). Raises ValueError naming the line."""
    row = line.fields
    setup = row.get("test_imports", [row["test_setup_code"]] if row.get("test_setup_code") else [])
    if not isinstance(row.get("test_list"), list) or not isinstance(setup, list):
        raise ValueError(f"{line.where}: no list 'test_list'")
    return {**row, "prompt": text(line, "prompt", "text"), "code": text(line, "code"), "test_imports": setup}


BENCHMARKS = {"human_eval": human_eval, "mbpp": mbpp, "mbpp_full": mbpp_full}
