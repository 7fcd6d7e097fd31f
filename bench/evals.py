"""Evaluation speed beside lm-evaluation-harness: the same model, items, prompts, threads and process, in turns.

``python -m bench.evals HF_DIR DATA_DIR [--items N] [--rounds R] [--threads T] [--tasks NAME...] [--precision bf16]
[--new-tokens N] [--peer-batch B] [--json OUT]``; needs the extra ``bench``. Both programs read the same files
(:mod:`bench.evals_sets`), the peer with its own task files. Printed for each task and for those of likelihoods together: items
a second of both (median over rounds) and their ratio, the ratio of CPU time (which other work on the machine disturbs less), how
many items have the same choice (by sum and by characters) or the same reply, and the score by both. ``screened`` is ours in
bfloat16 first, with close calls in fp32. Model loading is not timed, tokenizing is. Scores item by item: :mod:`bench.evals_parity`.
"""

from __future__ import annotations

import json
import logging
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import typer

from bench import evals_sets
from bench.evals_peer import Verdict, our_verdict, peer_verdicts, same_reply
from bench.program import REPORT, program
from modelyard.evals.methods import ask
from modelyard.evals.tools import Tools
from modelyard.execution import ExecutionConfig
from modelyard.model.inference.block import tokens_at_once
from modelyard.model.network import onednn, processor
from modelyard.model.subject import Subject

PEER = "lm_eval"
Sides = Mapping[str, Callable[[], list[Verdict]]]


def main(
    model: Annotated[Path, typer.Argument()],
    data: Annotated[Path, typer.Argument()],
    items: int = 64,
    rounds: int = 3,
    threads: int = 2,
    tasks: list[str] = ["arc_easy", "lambada", "mmlu-0", "mmlu-5"],
    precision: Annotated[Literal["fp32", "bf16"], typer.Option(help="Of both programs.")] = "fp32",
    new_tokens: Annotated[int, typer.Option(help="Longest reply, of both programs.")] = 64,
    peer_batch: Annotated[str, typer.Option(help="The peer's batch size: its own default is 1, `auto` lets it search.")] = "8",
    report: Annotated[Path | None, REPORT] = None,
) -> None:
    """Run and print."""
    print(processor.description(), flush=True)
    quiet(threads)
    models = {"ours": opened(model, threads, precision)}
    if precision == "fp32":
        models["screened"] = Subject.open(str(model), model, ExecutionConfig(threads=threads), 32, screen=True)
    peer = opened_by_peer(model, threads, precision, peer_batch)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    rows = tokens_at_once(models["ours"].engine.model, dtype)
    print(f"{precision} products of {rows} rows: {product_rate(dtype, rows):.0f} GFLOPS", flush=True)
    results = {}
    for task in tasks:
        results[task] = compare(task, models, peer, data, items, rounds, new_tokens)
        print(task, json.dumps(results[task]), flush=True)
    scored = {task: result for task, result in results.items() if "ours_same_choice" in result}
    if len(scored) > 1:
        results["all"] = together(scored, [*models, PEER])
        print("all", json.dumps(results["all"]), flush=True)
    if report:
        report.write_text(json.dumps(results, indent=1))


def quiet(threads: int) -> None:
    """Without the peer's log, on so many threads."""
    logging.disable(logging.WARNING)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(threads)


def opened(model: Path, threads: int, precision: Literal["fp32", "bf16"]) -> Subject:
    """The model by us, as ``modelyard eval --precision`` opens it."""
    return Subject.open(str(model), model, ExecutionConfig(threads=threads), 32, precision=precision, products=precision)


def opened_by_peer(model: Path, threads: int, precision: str, batch: str) -> Any:
    """The model by the peer."""
    from lm_eval.models.huggingface import HFLM

    named = {"fp32": "float32", "bf16": "bfloat16"}[precision]
    made = HFLM(pretrained=str(model), dtype=named, batch_size=batch if batch == "auto" else int(batch), device="cpu")
    torch.set_num_threads(threads)
    return made


def product_rate(dtype: torch.dtype, rows: int, width: int = 576, inner: int = 3072, times: int = 50) -> float:
    """GFLOPS of the scorer's largest product at SmolLM2-135M's widths: what no exact scoring can pass."""
    weight, x = onednn.packed(torch.randn(inner, width).to(dtype), rows), torch.randn(rows, width).to(dtype)
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(times):
            onednn.product(x, weight)
        seconds.append(time.perf_counter() - started)
    return 2e-9 * rows * width * inner * times / statistics.median(seconds)


def compare(task: str, models: Mapping[str, Subject], peer: Any, data: Path, items: int, rounds: int, new_tokens: int) -> dict[str, float]:
    """One task: rounds of each of ours and of theirs in turn."""
    parts = evals_sets.SETS[task](data, items)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        evals_sets.write(parts, root)
        benchmarks = [evals_sets.ours(part, root, new_tokens) for part in parts]
        written = benchmarks[0].method == "generate"
        if written:
            models = {"ours": models["ours"]}
        peer_tasks = [evals_sets.theirs(part, root, new_tokens) for part in parts]
        sides: dict[str, Callable[[], list[Verdict]]] = {
            name: lambda subject=subject: [  # type: ignore[misc]
                our_verdict(record, written) for one in benchmarks for record in ask(subject, one, Tools())
            ]
            for name, subject in models.items()
        }
        sides[PEER] = lambda: peer_verdicts(peer, peer_tasks)
        return measured(sides, rounds, sum(len(one.items) for one in benchmarks), written)


def measured(sides: Sides, rounds: int, count: int, written: bool) -> dict[str, float]:
    """Each side in turn, some rounds; the last one's verdicts are compared."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    cpu: dict[str, list[float]] = {name: [] for name in sides}
    verdicts: dict[str, list[Verdict]] = {}
    for _ in range(rounds):
        for name, run in sides.items():
            started, busy = time.perf_counter(), time.process_time()
            verdicts[name] = run()
            seconds[name].append(time.perf_counter() - started)
            cpu[name].append(time.process_time() - busy)
    speed = {name: count / statistics.median(values) for name, values in seconds.items()}
    result = {"items": float(count), **{f"{name}_items_per_s": round(value, 3) for name, value in speed.items()}}
    for name in sides:
        result |= {f"{name}_{key}": round(value, 4) for key, value in means(verdicts[name]).items()}
        if name != PEER:
            result[f"{name}_ratio"] = round(speed[name] / speed[PEER], 2)
            result[f"{name}_cpu_ratio"] = round(statistics.median(cpu[PEER]) / statistics.median(cpu[name]), 2)
            result |= {f"{name}_{key}": round(value, 4) for key, value in agreement(verdicts[name], verdicts[PEER], written).items()}
    return result


def means(verdicts: list[Verdict]) -> dict[str, float]:
    """Mean of each score that all items have."""
    return {key: statistics.mean(one.scores[key] for one in verdicts) for key in verdicts[0].scores}


def agreement(ours: list[Verdict], theirs: list[Verdict], written: bool) -> dict[str, float]:
    """Share of items with the same choice, or with the same reply as far as both go."""
    pairs = list(zip(ours, theirs, strict=True))
    if written:
        return {"same_reply": statistics.mean(same_reply(a, b) for a, b in pairs)}
    choices = [(a.choice, b.choice) for a, b in pairs if a.choice and b.choice]
    by_sum, by_length = (statistics.mean(a[kind] == b[kind] for a, b in choices) for kind in (0, 1))
    return {"same_choice": by_sum, "same_choice_norm": by_length}


def together(results: Mapping[str, Mapping[str, float]], sides: list[str]) -> dict[str, float]:
    """Items a second of the tasks one after another, and how many times the peer's."""
    items = sum(result["items"] for result in results.values())
    speed = {name: items / sum(result["items"] / result[f"{name}_items_per_s"] for result in results.values()) for name in sides}
    ratios = {f"{name}_ratio": round(speed[name] / speed[PEER], 2) for name in sides if name != PEER}
    return {"items": items, **{f"{name}_items_per_s": round(value, 3) for name, value in speed.items()}, **ratios}


if __name__ == "__main__":
    sys.exit(program(main))
