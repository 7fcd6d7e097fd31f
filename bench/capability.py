"""A capability forecast on models that are really trained here: sizes of one recipe learn sums, the largest is predicted.

``python -m bench.capability [--out DIR] [--json OUT]``, about three minutes on one core; a size that is finished is not trained again.
Every size sees the same tokens a parameter; pass rates are of samples at temperature 1, checked by computing each sum.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from bench.program import REPORT, program
from modelyard.execution import ExecutionConfig
from modelyard.formats.token_rows import write_rows
from modelyard.model.inference.generate import generate
from modelyard.model.network import processor
from modelyard.model.network.model_config import ModelConfig
from modelyard.model.training.optimizer import OptimizerConfig
from modelyard.model.training.recipe import Recipe, train_language_model
from modelyard.progress import silent
from modelyard.scaling import arithmetic, capability
from modelyard.scaling.arithmetic import Problem
from modelyard.scaling.capability import Tried
from modelyard.stats.estimate import bootstrap_mean

SEQ_LEN = 64
STYLE = {
    "style": "llama",
    "seq_len": SEQ_LEN,
    "vocab_size": len(arithmetic.ALPHABET),
    "tie_embeddings": False,
    "rope_base": 1e4,
    "norm_eps": 1e-5,
}
RATES = {"min_lr_ratio": 0.1, "weight_decay": 0.1, "beta1": 0.9, "beta2": 0.95, "eps": 1e-8, "clip_grad": 1.0, "schedule": "cosine"}


def recipe(hidden: int, tokens_per_parameter: float, layers: int = 3) -> Recipe:
    """The recipe at a width; learning rate and initialisation follow the width, the batch is one for all."""
    shape = {"layers": layers, "hidden": hidden, "heads": hidden // 8, "kv_heads": hidden // 8, "ffn_hidden": hidden * 8 // 3}
    model = ModelConfig.model_validate({**STYLE, **shape, "init_std": 0.5 / hidden**0.5})
    steps = max(1, round(tokens_per_parameter * model.flops_per_token() / 6 / (16 * SEQ_LEN)))
    rates = {**RATES, "lr": 0.01 * (32 / hidden) ** (2 / 3), "warmup_steps": steps // 20}
    optimizer = OptimizerConfig.model_validate(rates)
    return Recipe(model=model, optimizer=optimizer, precision="fp32", steps=steps, batch=16, micro_batch=16, seed=1)


def measure(made: Recipe, data: Path, directory: Path, problems: Sequence[Problem], samples: int) -> Tried:
    """Train one size and count its passes; from its note where that was done before."""
    note = directory / "counts.json"
    if not note.is_file():
        execution = ExecutionConfig(threads=1, checkpoint_every=500)
        trained = train_language_model(made, data, "capability", directory, execution, silent)
        prompts = [[arithmetic.END, *arithmetic.encode(problem.prompt)] for problem in problems for _ in range(samples)]
        generated = generate(
            trained.engine, prompts, max_new_tokens=arithmetic.LONGEST, temperature=1.0, seed=1, stop_ids=(arithmetic.END,), batch=512
        )
        counts = dict.fromkeys((problem.name for problem in problems), 0)
        for index, tokens in enumerate(generated.tokens):
            problem = problems[index // samples]
            counts[problem.name] += arithmetic.passes(arithmetic.decode(tokens), problem)
        directory.mkdir(parents=True, exist_ok=True)
        note.write_text(json.dumps({"passed": counts, "loss": trained.held_out.value}))
    found = json.loads(note.read_text())
    rates = [count / samples for count in found["passed"].values()]
    score = bootstrap_mean(rates, 0)
    print(
        f"width {made.model.hidden:4}  {made.compute:.3g} FLOPs  {made.steps:5} steps  loss {found['loss']:.4f}  pass@1 {score}", flush=True
    )
    return capability.counted(made.compute, samples, found["passed"])


def main(
    out: Annotated[Path | None, typer.Option(help="Keeps finished sizes; a temporary directory by default.")] = None,
    report: Annotated[Path | None, REPORT] = None,
    widths: Annotated[list[int], typer.Option(help="The last one is predicted (multiples of 8).")] = [16, 24, 32, 40, 56],
    tokens_per_parameter: float = 20.0,
    per_grade: Annotated[int, typer.Option("--problems", help="Of each grade.")] = 24,
    samples: Annotated[int, typer.Option(help="Of each problem.")] = 50,
    buckets: int = 4,
    dropped: Annotated[int, typer.Option(help="Hardest problems left out.")] = 12,
) -> int:
    """Train, count, split, predict, compare."""
    print(processor.description(), flush=True)
    out = out or Path(tempfile.mkdtemp(prefix="capability-"))
    out.mkdir(parents=True, exist_ok=True)
    train, validation = arithmetic.training_rows(40_000, SEQ_LEN, seed=1), arithmetic.training_rows(200, SEQ_LEN, seed=2, held=True)
    write_rows(out, {"train": train, "validation": validation}, len(arithmetic.ALPHABET), arithmetic.END)
    graded = arithmetic.benchmark(per_grade, seed=3)
    problems = [problem for _, problem in graded]
    recipes = [recipe(width, tokens_per_parameter) for width in sorted(widths)]
    counts = [measure(made, out, out / f"width_{made.model.hidden}", problems, samples) for made in recipes]
    small, large = counts[:-1], counts[-1]
    split = capability.buckets(small, buckets, dropped)
    forecasts = {one.bucket: one for one in capability.forecast(small, split, large.compute, seed=0)}
    print(f"predicted at {large.compute:.3g} FLOPs, {large.compute / small[-1].compute:.1f} times the largest fitted model")
    rows = []
    for index, bucket in enumerate(split):
        there = f"bucket {index + 1} of {len(split)}{' (easiest)' if index == 0 else ''}: {len(bucket.problems)} problems"
        excluded = f", {len(bucket.unsolved)} not solved by every small model"
        if index not in forecasts:
            print(f"{there}{excluded}: too few to predict")
            continue
        one = forecasts[index]
        solved = [problem for problem in one.problems if large.rates[problem]]
        measured = capability.mean_log_failure(large, solved)
        inside = one.low <= measured <= one.high
        interval = f"{one.prediction:.3f} [{one.low:.3f}, {one.high:.3f}]"
        never = f", {len(one.problems) - len(solved)} never solved by the large model" if len(solved) < len(one.problems) else ""
        print(
            f"{there}{excluded}{never}: -E[log pass] {interval}, measured {measured:.3f}, {'inside' if inside else 'outside'}; k {one.k:.3f}"
            f"{'; ' + one.objection if one.objection else ''}"
        )
        rows.append({**one._asdict(), "measured": measured, "inside": inside, "excluded": len(bucket.unsolved)})
    for grade, described in enumerate(arithmetic.GRADES):
        names = [problem.name for of, problem in graded if of == grade]
        scores = [(model.compute, bootstrap_mean([model.rates[name] for name in names], 0)) for model in counts]
        print(f"{described}: {capability.trend(scores)} ({', '.join(f'{score.value:.2f}' for _, score in scores)})")
    if report:
        report.write_text(json.dumps({"buckets": rows, "counts": [model._asdict() for model in counts]}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(program(main))
