"""Scores beside lm-evaluation-harness's own, item by item, on the replies and likelihoods of two models.

``python -m bench.evals_parity HF_DIR DATA_DIR [--items N] [--noise SHARE] [--new-tokens N] [--tasks NAME...] [--json OUT]``; needs
the extra ``bench``. The second model is the first with noise of that share of each matrix's deviation added (0: none is asked).
Each program asks the model itself and scores what it got by its own rules, from the same files (:mod:`bench.evals_sets`). Printed
for every set and model: the items, and of how many both make the same choice or get the same reply, and give the same score,
for each metric (and filter) of the peer's. Programs are scored by the peer with ``code_eval`` of huggingface/evaluate, whose folder
``metrics/code_eval`` must lie in the working directory, and ``HF_ALLOW_CODE_EVAL=1``: it runs what the model wrote.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from bench import evals_sets
from bench.evals import opened, opened_by_peer, quiet
from bench.evals_peer import Verdict, our_verdict, peer_verdicts, same_reply
from bench.program import REPORT, program
from modelyard.evals.methods import ask
from modelyard.evals.tools import Tools
from modelyard.model.network import processor
from modelyard.model.subject import Subject

OURS = {"acc": "acc", "acc_norm": "acc_norm"}
"""Metric of the peer's that one of ours is called like; every other is held against the item's score."""


def main(
    model: Annotated[Path, typer.Argument()],
    data: Annotated[Path, typer.Argument()],
    items: int = 20,
    noise: Annotated[float, typer.Option(help="Of the second model, as a share of each matrix's standard deviation.")] = 0.1,
    new_tokens: int = 96,
    threads: int = 2,
    tasks: Annotated[list[str] | None, typer.Option(help="Those of bench.evals_sets without it.")] = None,
    peer_batch: str = "8",
    report: Annotated[Path | None, REPORT] = None,
) -> None:
    """Run and print."""
    print(processor.description(), flush=True)
    quiet(threads)
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, directory in {"as it is": model, **({"with noise": noisy(model, noise, Path(folder))} if noise else {})}.items():
            subject, peer = opened(directory, threads, "fp32"), opened_by_peer(directory, threads, "fp32", peer_batch)
            for task in tasks or [one for one in evals_sets.SETS if one not in evals_sets.CODE or os.environ.get("HF_ALLOW_CODE_EVAL")]:
                results[f"{task}, {name}"] = found = one_set(task, subject, peer, data, items, new_tokens)
                print(f"{task}, {name}: {json.dumps(found)}", flush=True)
                if report:
                    report.write_text(json.dumps(results, indent=1))


def noisy(model: Path, share: float, folder: Path) -> Path:
    """The model with Gaussian noise on its matrices."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    made, generator = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in made.parameters():
            if weight.ndim == 2:
                weight += share * weight.std() * torch.randn(weight.shape, generator=generator)
    made.save_pretrained(folder)
    AutoTokenizer.from_pretrained(model).save_pretrained(folder)
    return folder


def one_set(task: str, subject: Subject, peer: Any, data: Path, items: int, new_tokens: int) -> dict[str, Any]:
    """Counts of one set's items."""
    parts = evals_sets.SETS[task](data, items)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        evals_sets.write(parts, root)
        benchmarks = [evals_sets.ours(part, root, new_tokens) for part in parts]
        written = benchmarks[0].method in ("generate", "code")
        mine = [our_verdict(record, written) for one in benchmarks for record in ask(subject, one, Tools())]
        theirs = peer_verdicts(peer, [evals_sets.theirs(part, root, new_tokens) for part in parts])
    return counts(mine, theirs, written)


def counts(mine: list[Verdict], theirs: list[Verdict], written: bool) -> dict[str, Any]:
    """Of how many items what is the same, and how often each program says that the model is right."""
    pairs = list(zip(mine, theirs, strict=True))
    alike = "same_reply" if written else "same_choice"
    found: dict[str, Any] = {"items": len(pairs)}
    found[alike] = sum(same_reply(a, b) if written else a.choice == b.choice for a, b in pairs)
    for metric in theirs[0].scores:
        own = OURS.get(metric, "score")
        scores = [(a.scores[own], b.scores[metric], same_reply(a, b)) for a, b in pairs]
        found[metric] = {
            "same": sum(x == y for x, y, _ in scores),
            "ours": sum(x for x, _, _ in scores),
            "theirs": sum(y for _, y, _ in scores),
        }
        if written:  # where the replies differ, so may the scores, whatever the rules
            found[metric]["same_where_replies_are"] = sum(x == y for x, y, equal in scores if equal)
    return found


if __name__ == "__main__":
    sys.exit(program(main))
