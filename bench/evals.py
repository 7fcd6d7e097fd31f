"""Scoring speed and agreement with lm-evaluation-harness: the same model, items, prompts, threads and process, in turns.

``python -m bench.evals HF_DIR DATA_DIR [--items N] [--rounds R] [--threads T] [--peer-batch B] [--json
OUT]``; needs the extra ``bench``. The peer runs its own ARC-easy, LAMBADA and MMLU templates (0-shot, and
MMLU 5-shot) in fp32 over the same local files. Printed for each and for all together: items a second of both
(median over rounds) and their ratio; for each also the ratio of CPU time (which other work on the machine
disturbs less), how many items have the same choice (by sum and by characters) and both accuracies. Model
loading is not timed, tokenizing is.
"""

from __future__ import annotations

import json
import logging
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from bench.program import REPORT, program
from modelyard.evals.benchmark import Benchmark
from modelyard.evals.catalog import build
from modelyard.evals.methods import ask
from modelyard.evals.tools import Tools
from modelyard.execution import ExecutionConfig
from modelyard.formats.records import Record
from modelyard.model.inference.score import CPU_TOKENS
from modelyard.model.network import onednn, processor
from modelyard.model.subject import Subject

SUBJECTS = ("abstract_algebra", "virology", "world_religions", "marketing")
Choices = list[tuple[int, int, bool, bool]]
"""Of each item: choice by sum, by characters, right by sum, right by characters (a last word: greedy or not, four times)."""


def main(
    model: Annotated[Path, typer.Argument()],
    data: Annotated[Path, typer.Argument()],
    items: int = 64,
    rounds: int = 3,
    threads: int = 2,
    tasks: list[str] = ["arc_easy", "lambada", "mmlu-0", "mmlu-5"],
    peer_batch: Annotated[str, typer.Option(help="The peer's batch size: its own default is 1, `auto` lets it search.")] = "8",
    report: Annotated[Path | None, REPORT] = None,
) -> None:
    """Run and print."""
    print(processor.description(), flush=True)
    logging.disable(logging.WARNING)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(threads)
    ours = Subject.open(str(model), model, ExecutionConfig(threads=threads), 32)
    screened = Subject.open(str(model), model, ExecutionConfig(threads=threads), 32, screen=True)
    from lm_eval.models.huggingface import HFLM

    theirs = HFLM(pretrained=str(model), dtype="float32", batch_size=peer_batch, device="cpu")
    torch.set_num_threads(threads)
    print(f"fp32 products of {CPU_TOKENS} rows: {product_rate():.0f} GFLOPS", flush=True)
    results = {}
    for task in tasks:
        results[task] = compare(task, ours, screened, theirs, data, items, rounds)
        print(task, json.dumps(results[task]), flush=True)
    results["all"] = together(results)
    print("all", json.dumps(results["all"]), flush=True)
    if report:
        report.write_text(json.dumps(results, indent=1))


def product_rate(width: int = 576, inner: int = 3072, times: int = 50) -> float:
    """GFLOPS of the scorer's largest product at SmolLM2-135M's widths: what no exact scoring can pass."""
    weight, x = onednn.packed(torch.randn(inner, width), CPU_TOKENS), torch.randn(CPU_TOKENS, width)
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(times):
            onednn.product(x, weight)
        seconds.append(time.perf_counter() - started)
    return 2e-9 * CPU_TOKENS * width * inner * times / statistics.median(seconds)


def compare(task: str, ours: Subject, screened: Subject, theirs: Any, data: Path, items: int, rounds: int) -> dict[str, float]:
    """One task: rounds of ours, ours screened and theirs in turn."""
    benchmarks = benchmarks_of(task, data, items)
    count = sum(len(benchmark.items) for benchmark in benchmarks)
    with tempfile.TemporaryDirectory() as folder:
        peer = peer_tasks(task, benchmarks, data, Path(folder))
        sides: dict[str, Callable[[], Choices]] = {
            "ours": lambda: our_choices(ours, benchmarks),
            "screened": lambda: our_choices(screened, benchmarks),
            "lm_eval": lambda: peer_choices(theirs, peer),
        }
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        cpu: dict[str, list[float]] = {name: [] for name in sides}
        choices: dict[str, Choices] = {}
        for _ in range(rounds):
            for name, run in sides.items():
                started, busy = time.perf_counter(), time.process_time()
                choices[name] = run()
                seconds[name].append(time.perf_counter() - started)
                cpu[name].append(time.process_time() - busy)
    speed = {name: count / statistics.median(values) for name, values in seconds.items()}
    result = {"items": float(count), **{f"{name}_items_per_s": round(value, 3) for name, value in speed.items()}}
    for name in ("ours", "screened"):
        pairs = list(zip(choices[name], choices["lm_eval"], strict=True))
        result[f"{name}_ratio"] = round(speed[name] / speed["lm_eval"], 2)
        result[f"{name}_cpu_ratio"] = round(statistics.median(cpu["lm_eval"]) / statistics.median(cpu[name]), 2)
        result[f"{name}_same_choice"] = round(sum(a[0] == b[0] for a, b in pairs) / count, 4)
        result[f"{name}_same_choice_norm"] = round(sum(a[1] == b[1] for a, b in pairs) / count, 4)
    for name, found in choices.items():
        result[f"{name}_acc"] = round(sum(line[2] for line in found) / count, 4)
        result[f"{name}_acc_norm"] = round(sum(line[3] for line in found) / count, 4)
    return result


def together(results: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Items a second of the tasks one after another, and how many times the peer's."""
    items = sum(result["items"] for result in results.values())
    speed = {
        name: items / sum(result["items"] / result[f"{name}_items_per_s"] for result in results.values())
        for name in ("ours", "screened", "lm_eval")
    }
    ratios = {f"{name}_ratio": round(speed[name] / speed["lm_eval"], 2) for name in ("ours", "screened")}
    return {"items": items, **{f"{name}_items_per_s": round(value, 3) for name, value in speed.items()}, **ratios}


def benchmarks_of(task: str, data: Path, items: int) -> list[Benchmark]:
    """The first ``items`` of a set; of MMLU as many from each of four subjects as make that number."""
    name, _, shots = task.partition("-")
    if name != "mmlu":
        return [build(name, data, limit=items)]
    return [build(f"mmlu_{subject}", data, limit=max(1, items // len(SUBJECTS)), shots=int(shots)) for subject in SUBJECTS]


def our_choices(subject: Subject, benchmarks: Sequence[Benchmark]) -> Choices:
    """Through the same call as the command."""
    return [line for benchmark in benchmarks for record in ask(subject, benchmark, Tools()) for line in [our_choice(record)]]


def our_choice(record: Record) -> tuple[int, int, bool, bool]:
    """A record as the four things compared."""
    if record.choice < 0:
        hit = bool(record.score)
        return int(hit), int(hit), hit, hit
    return record.choice, record.choice_normalised, bool(record.values["acc"]), bool(record.values["acc_norm"])


def peer_tasks(task: str, benchmarks: Sequence[Benchmark], data: Path, folder: Path) -> list[Any]:
    """The peer's task objects over the same items, with its own templates."""
    from lm_eval.api.task import ConfigurableTask

    def local(name: str, rows: Sequence[dict[str, Any]]) -> str:
        path = folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    made = []
    for benchmark in benchmarks:
        files: dict[str, str] = {"test": local(benchmark.name, [fields_of(benchmark, i) for i in range(len(benchmark.items))])}
        config: dict[str, Any] = {"task": f"{task}_{benchmark.name}", "dataset_path": "json", "test_split": "test"}
        if task == "lambada":
            config |= {
                "output_type": "loglikelihood",
                "doc_to_text": "{{text.split(' ')[:-1]|join(' ')}}",
                "doc_to_target": "{{' '+text.split(' ')[-1]}}",
                "metric_list": [{"metric": "acc"}],
            }
        elif task == "arc_easy":
            config |= {
                "output_type": "multiple_choice",
                "doc_to_text": "Question: {{question}}\nAnswer:",
                "doc_to_target": "answer",
                "doc_to_choice": "{{choices}}",
                "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
            }
        else:
            subject = benchmark.items[0].group
            files["dev"] = local(f"{benchmark.name}_dev", dev_rows(data, subject))
            options = "\n".join(f"{letter}. {{{{choices[{i}]}}}}" for i, letter in enumerate("ABCD"))
            config |= {
                "output_type": "multiple_choice",
                "description": f"The following are multiple choice questions (with answers) about {subject.replace('_', ' ')}.\n\n",
                "doc_to_text": f"{{{{question.strip()}}}}\n{options}\nAnswer:",
                "doc_to_choice": ["A", "B", "C", "D"],
                "doc_to_target": "answer",
                "fewshot_split": "dev",
                "fewshot_config": {"sampler": "first_n"},
                "num_fewshot": int(task.partition("-")[2]),
                "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
            }
        built = ConfigurableTask(config={**config, "dataset_kwargs": {"data_files": files}})
        built.build_all_requests(rank=0, world_size=1)
        made.append(built)
    return made


def fields_of(benchmark: Benchmark, index: int) -> dict[str, Any]:
    """An item as the peer's templates want it."""
    item = benchmark.items[index]
    if benchmark.method == "last_word":
        return {"text": f"{item.fields['context']} {item.target}"}
    if benchmark.name == "arc_easy":
        return {"question": item.fields["question"], "choices": list(item.choices), "answer": item.right[0]}
    lines = item.fields["question"].rsplit("\nA. ", 1)
    rest = lines[1].removesuffix("\nAnswer:")
    first, rest = rest.split("\nB. ", 1)
    second, rest = rest.split("\nC. ", 1)
    third, fourth = rest.split("\nD. ", 1)
    return {"question": lines[0], "choices": [first, second, third, fourth], "answer": item.right[0]}


def dev_rows(data: Path, subject: str) -> list[dict[str, Any]]:
    """MMLU's examples of a subject."""
    from modelyard.evals.catalog.rows import find, jsonl

    keys = ("question", "choices", "answer")
    return [{key: row[key] for key in keys} for row in jsonl(find(data, "mmlu/fewshot.jsonl")) if row["subject"] == subject]


def peer_choices(model: Any, tasks: Sequence[Any]) -> Choices:
    """The peer's own requests, likelihoods and scoring; what surrounds them in its ``simple_evaluate`` is not timed against it."""
    found: Choices = []
    for task in tasks:
        replies: dict[int, list[tuple[int, Any]]] = {}
        for request, reply in zip(task.instances, model.loglikelihood(task.instances, disable_tqdm=True), strict=True):
            replies.setdefault(request.doc_id, []).append((request.idx, reply))
        for number, doc in enumerate(task.eval_docs):
            found.append(peer_choice(task, doc, [reply for _, reply in sorted(replies[number], key=lambda pair: pair[0])]))
    return found


def peer_choice(task: Any, doc: dict[str, Any], replies: Sequence[tuple[float, bool]]) -> tuple[int, int, bool, bool]:
    """An item as the four things compared; right or wrong is the peer's own verdict."""
    verdict = task.process_results(doc, list(replies) if len(replies) > 1 else [replies[0]])
    if len(replies) == 1:
        hit = bool(verdict["acc"])
        return int(hit), int(hit), hit, hit
    totals = [float(total) for total, _ in replies]
    by_length = [total / len(text) for total, text in zip(totals, task.doc_to_choice(doc), strict=True)]
    return totals.index(max(totals)), by_length.index(max(by_length)), bool(verdict["acc"]), bool(verdict["acc_norm"])


if __name__ == "__main__":
    sys.exit(program(main))
