"""BIG-Bench Hard (Suzgun et al. 2023): 27 tasks after three examples of chain of thought each.

Items are the repository's own files (``bbh/{task}.json``) or the Hub's, a folder a task under ``input`` and ``target``. The Hub
publishes no chains of thought: they are the repository's ``bbh/cot-prompts/{task}.txt``, or lm-evaluation-harness's
``bbh/cot_fewshot/{task}.yaml``, which say the same (in sports_understanding but for line ends). Left out: answers without a
chain of thought.
"""

from __future__ import annotations

from pathlib import Path

from modelyard.evals.benchmark import Benchmark
from modelyard.evals.catalog.reasoning import LONG, worked
from modelyard.evals.catalog.rows import MissingDataError, lines_of, own_file, published, text
from modelyard.evals.item import Item
from modelyard.formats import json_file
from modelyard.formats.json_file import Line, text_of

PROMPT = "Q: {question}\nA: Let's think step by step.\n"


def bbh(data: Path, shots: int | None, task: str | None = None) -> Benchmark:
    """The 27 tasks (or one), with the three examples that come with them.

    Raises:
        ValueError: no such task, or another number of examples than three or none.
    """
    found = files(data)
    if not found:
        raise MissingDataError(f"missing data: none of bbh/*.json, bbh/**/TASK/test* (JSON lines or Parquet) in {data}")
    if task is not None and task not in found:
        raise ValueError(f"bbh has no task {task!r}; it has {', '.join(sorted(found))}")
    if shots not in (None, 0, 3):
        raise ValueError(f"bbh has 3 examples a task or none, not {shots}")
    items: list[Item] = []
    prefaces = {}
    for name in sorted(found) if task is None else [task]:
        instruction, solved = told(data, name)
        prefaces[name] = f"{instruction}\n\n" + ("" if shots == 0 else f"{solved}\n\n")
        lines = [line for path in found[name] for line in examples(path)]
        if not lines:
            raise ValueError(f"{found[name][0]}: no items")
        for place, line in enumerate(lines):
            asked = {"question": text(line, "input")}
            items.append(Item(id=f"bbh/{name}/{place}", fields=asked, target=text(line, "target"), group=name))
    return worked("bbh" if task is None else f"bbh_{task}", tuple(items), PROMPT, prefaces, ("\n\nQ:", "\nQ:"), "stated_answer", LONG)


def files(data: Path) -> dict[str, list[Path]]:
    """Task -> the files of its items: ``bbh/navigate.json``, or what lies in a folder ``navigate`` (or its split's) below ``bbh``."""
    if own := published(data, "bbh/*"):
        return {path.name.partition(".")[0]: [path] for path in own}
    found: dict[str, list[Path]] = {}
    for split in ("test", "train"):
        for path in [*published(data, f"bbh/**/{split}*"), *published(data, f"bbh/**/{split}/*")]:
            folder = path.parent.parent if path.parent.name == split else path.parent
            found.setdefault(folder.name, []).append(path)
        if found:
            break
    return found


def examples(path: Path) -> list[Line]:
    """The rows of a file: the repository's object of ``examples``, or a row a line."""
    if not path.name.removesuffix(".gz").endswith(".json"):
        return lines_of(path)
    rows = json_file.table(path, "examples")["examples"]
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{path}: examples: not a list of objects")
    return [Line(f"{path}: example {place}", row) for place, row in enumerate(rows)]


def told(data: Path, task: str) -> tuple[str, str]:
    """A task's instruction, and its solved examples.

    Raises:
        ValueError: there is neither of the two files, or it holds no examples.
    """
    if path := own_file(data, f"bbh/cot-prompts/{task}.txt"):
        prompt = text_of(path).partition("-----\n")[2].strip()
    elif path := own_file(data, f"bbh/cot_fewshot/{task}.yaml"):
        prompt = of_harness(path)
    else:
        raise MissingDataError(f"missing data: none of bbh/cot-prompts/{task}.txt, bbh/cot_fewshot/{task}.yaml in {data}")
    instruction, _, solved = prompt.partition("\n\n")
    return instruction, solved


def of_harness(path: Path) -> str:
    """Instruction and examples of the harness's task file. Raises ValueError naming the file without them."""
    import yaml

    try:
        given = yaml.safe_load(text_of(path))
        shown = [f"{PROMPT.format(question=one['input'])}{one['target']}" for one in given["fewshot_config"]["samples"]]
        return "\n\n".join([str(given["description"]).strip(), *shown])
    except (yaml.YAMLError, KeyError, TypeError):
        raise ValueError(f"{path}: no description and fewshot_config.samples of input and target, as lm-evaluation-harness's has") from None


BENCHMARKS = {"bbh": bbh}
FAMILIES = {"bbh": bbh}
