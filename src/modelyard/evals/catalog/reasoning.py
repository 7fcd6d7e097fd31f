"""Worked answers: GSM8K (Cobbe et al. 2021), MGSM (Shi et al. 2023), BIG-Bench Hard (Suzgun et al. 2023), trivia by exact words.

Chain of thought from fixed examples: the first eight of GSM8K's training set with its own ``####`` lines, MGSM's eight in its language, BBH's
three with ``So the answer is``. Black-box parsing: the number or phrase the reply states. Left out: MATH and DROP, whose data would have
to be at hand.
"""

from __future__ import annotations

import json
from pathlib import Path

from modelyard.evals.benchmark import Benchmark, Item
from modelyard.evals.catalog.rows import Row, find, jsonl, taken
from modelyard.evals.scorers import final_number
from modelyard.formats.json_file import text_of
from modelyard.model.asked import Decoding

LANGUAGES = ("bn", "de", "es", "fr", "ja", "ru", "sw", "te", "th", "zh")


def worked(name: str, items: tuple[Item, ...], prompt: str, prefaces: dict[str, str], stops: tuple[str, ...], parser: str) -> Benchmark:
    """Greedy generation of a solution, judged by the answer it states."""
    number = parser == "final_number"
    scorer = "same_number" if number else "exact"
    return Benchmark(
        name=name,
        items=items,
        prompt=prompt,
        decoding=Decoding(max_new_tokens=320, temperature=0.0, samples=1, seed=0, stops=stops),
        parser=parser,
        scorer=scorer,
        metrics=(scorer, "parsed"),
        prefaces=prefaces,
    )


def gsm8k(data: Path, shots: int | None) -> Benchmark:
    """Grade-school problems, 8-shot chain of thought."""
    count = 8 if shots is None else shots
    shown = ""
    if count:
        source = find(data, "gsm8k/train.jsonl")
        own = taken(jsonl(source, "question", "answer"), count, source)
        shown = "".join(f"Question: {row['question']}\nAnswer: {row['answer']}\n\n" for row in own)
    rows = jsonl(find(data, "gsm8k/test.jsonl"), "question", "answer")
    items = tuple(
        Item(id=f"gsm8k/{line}", fields={"question": row["question"]}, target=final_number(row["answer"])) for line, row in enumerate(rows)
    )
    return worked("gsm8k", items, "Question: {question}\nAnswer:", {"": shown}, ("\n\n", "Question:"), "final_number")


def mgsm(data: Path, shots: int | None, language: str | None = None) -> Benchmark:
    """GSM8K's first 250 test problems in ten languages (or one), 8-shot chain of thought in the same."""
    if language is not None and language not in LANGUAGES:
        raise ValueError(f"mgsm has no language {language!r}; it has {', '.join(LANGUAGES)}")
    items: list[Item] = []
    prefaces = {}
    for code in LANGUAGES if language is None else (language,):
        source = find(data, f"mgsm/fewshot_{code}.jsonl")
        examples = jsonl(source, "question", "answer")
        prefaces[code] = "".join(
            f"{row['question']}\n{row['answer']}\n\n" for row in taken(examples, min(8, len(examples)) if shots is None else shots, source)
        )
        ask, reply = (opening(examples[0], key) for key in ("question", "answer"))
        for line, row in enumerate(jsonl(find(data, f"mgsm/samples_{code}.jsonl"), "question", "answer")):
            fields = {"question": f"{ask} {row['question']}\n{reply}"}
            item_id, question = f"mgsm/{code}/{line}", str(row["question"])
            items.append(Item(id=item_id, fields=fields, target=str(row["answer"]), group=code, question=question))
    name = "mgsm" if language is None else f"mgsm_{language}"
    return worked(name, tuple(items), "{question}", prefaces, ("\n\n",), "final_number")


def opening(example: Row, key: str) -> str:
    """The words with which a language's examples open, up to the colon: ``Frage:``."""
    for colon in (":", "\uff1a"):
        head, found, _ = str(example[key]).partition(colon)
        if found and len(head) < 40:
            return head + colon
    return ""


def bbh(data: Path, shots: int | None, task: str | None = None) -> Benchmark:
    """The 27 tasks (or one), with the three chain-of-thought examples that come with them."""
    tasks = sorted(path.name.split(".")[0] for path in (data / "bbh").glob("*.json*"))
    if not tasks or (task is not None and task not in tasks):
        raise ValueError(f"bbh has no task {task!r}; it has {', '.join(tasks)}" if tasks else f"missing data: no bbh/*.json in {data}")
    if shots not in (None, 0, 3):
        raise ValueError(f"bbh has 3 examples a task or none, not {shots}")
    items: list[Item] = []
    prefaces = {}
    for name in tasks if task is None else [task]:
        prompt = text_of(find(data, f"bbh/cot-prompts/{name}.txt")).partition("-----\n")[2].rstrip()
        prefaces[name] = f"{prompt}\n\n" if shots is None or shots else f"{prompt.split(chr(10))[0]}\n\n"
        for line, row in enumerate(json.loads(text_of(find(data, f"bbh/{name}.json")))["examples"]):
            items.append(Item(id=f"bbh/{name}/{line}", fields={"question": row["input"]}, target=row["target"], group=name))
    prompt = "Q: {question}\nA: Let's think step by step.\n"
    return worked("bbh" if task is None else f"bbh_{task}", tuple(items), prompt, prefaces, ("\n\nQ:", "\nQ:"), "stated_answer")


BENCHMARKS = {"gsm8k": gsm8k, "mgsm": mgsm, "bbh": bbh}
FAMILIES = {"mgsm": mgsm, "bbh": bbh}
