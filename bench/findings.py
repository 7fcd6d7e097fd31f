"""Three findings of GPT-Fathom (arXiv:2309.16583) on models that are trained here, over seeds.

``make findings`` (``python -m bench.findings``): (a) SFT and RL turn what a model can do in a hundred tries into what it does in one, and cost some
of the hundred; (b) SFT helps a weak base more than a strong one; (c) code in the pretraining mix lifts reasoning. The benchmark is ``answers``:
sums that no model was shown, a hundred samples each. A run is the line of a config (``configs/pipeline/findings*.toml``) at one seed, from corpus to
results, in a store of its own below ``--home``: what is there is not built again, so the program can be killed at any point. The corpus holds other
sums, which this program writes. Left out: everything after the results; other kinds of reasoning than sums.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from prefect import flow

from bench.findings_report import METRICS, finding_table, judged, plot, score_table
from bench.lines import Progress, at_home, measure
from bench.program import REPORT, program
from flows.data import data_flow
from flows.pipeline_config import Given, PipelineConfig, load_pipeline, resolve
from flows.tracked import tracked
from modelyard.adapters import terminal
from modelyard.data.feedback.tasks import questions
from modelyard.exit_codes import DONE
from modelyard.formats.results import Results, read_results
from modelyard.store.artifacts import Built
from tasks.build import Place
from tasks.line import Line
from tasks.session import run_from_terminal

CONFIGS = "configs/pipeline/findings"
BENCHMARK = "answers"
SUMS, CORPUS_SEED, CORPUS_SIZE = "sums.jsonl", 1, 60_000
"""The corpus' file of sums, below ``execution.inputs``: as the config's own questions are made, from another seed."""
RUNS = {"ppo": "", "grpo": "-grpo", "weak": "-weak", "no-code": "-no-code"}
"""Run -> the end of its config's name."""
SAMPLED = ("ppo", "grpo")
"""Runs with a policy; the others end with SFT."""
FIRST_SEED = 11
"""Sizes were chosen by runs of smaller seeds."""
TINY = (
    "base.steps=250",
    "base.optimizer.warmup_steps=10",
    "forecast.rungs=[{layers=1,hidden=8,steps=7,seeds=1},{layers=1,hidden=12,steps=12,seeds=1},"
    "{layers=1,hidden=16,steps=16,seeds=1},{layers=2,hidden=16,steps=21,seeds=1}]",
    "tokens.train_tokens=260_000",
    "sft.epochs=0.5",
    "evals.benchmarks.answers.limit=20",
)
TINY_WEAK = (
    "base.steps=100",
    "forecast.rungs=[{layers=1,hidden=8,steps=3,seeds=1},{layers=1,hidden=12,steps=5,seeds=1},"
    "{layers=1,hidden=16,steps=7,seeds=1},{layers=2,hidden=16,steps=8,seeds=1}]",
)
TINY_POLICY = ("policy.iterations=3", "policy.final_episodes=64")


class Run(NamedTuple):
    """A line at one seed."""

    seed: int
    name: str
    """Key of :data:`RUNS`."""
    config: PipelineConfig


def planned(home: Path, seeds: int, threads: int, tiny: bool) -> list[Run]:
    """Every run, seed by seed. Raises ConfigError."""
    where = (f"execution.store=file://{home}/store", f"execution.scratch={home}/scratch", f"execution.inputs={home}/inputs")
    runs = []
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        for name, end in RUNS.items():
            stages = ("base", "sft", *(("reward", "policy") if name in SAMPLED else ()))
            changes = [*where, f"execution.threads={threads}", *(f"{stage}.seed={seed}" for stage in stages)]
            runs.append(Run(seed, name, load_pipeline(f"{CONFIGS}{end}.toml", [*changes, *(smallest(name) if tiny else ())])))
    return runs


def smallest(name: str) -> tuple[str, ...]:
    """What makes a run tiny."""
    return (*TINY, *(TINY_WEAK if name == "weak" else ()), *(TINY_POLICY if name in SAMPLED else ()))


def write_sums(config: PipelineConfig, path: Path) -> None:
    """Sums with their results for the corpus, one a line: none that the config's own task asks, shows or rewards."""
    (task,) = config.feedback.tasks
    own = {question.prompt for question in questions(task)}
    others = questions(task.model_copy(update={"seed": CORPUS_SEED, "size": CORPUS_SIZE}))
    lines = [json.dumps({"text": f"{one.prompt}{one.answer}"}) + "\n" for one in others if one.prompt not in own]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(lines), "utf-8")


@flow(name="measured", flow_run_name="{config.name}")
@tracked
def measured_flow(config: Given) -> Built:
    """The line up to its results, which are returned, without what judges and releases.

    Args:
        config: the line, or its file with overrides.
    """
    line = Line(resolve(config))
    measure(line, "gold")  # nothing of a sum is a matter of taste
    return line.built["results"]


def scores_of(results: Results) -> dict[str, float]:
    """``{model}/{metric}`` of the benchmark; the released model of a line without a policy is its SFT model."""
    models = {model: model for model in results.records} if "sft" in results.records else {"base": "base", "policy": "sft"}
    return {
        f"{called}/{metric}": results.metrics[f"evals/{model}/{BENCHMARK}/{metric}"].value
        for model, called in models.items()
        for metric in METRICS
    }


def gone_through(runs: Sequence[Run]) -> dict[int, dict[str, float]]:
    """Seed -> ``{run}/{model}/{metric}`` -> score of all runs, built or found."""
    scores: dict[int, dict[str, float]] = {}
    out = terminal.console()
    out.print("data of all runs")
    data_flow(runs[0].config)
    progress = Progress([run.name for run in runs])
    for place, run in enumerate(runs):
        out.print(progress.before(place, f"{run.name}, seed {run.seed}"), style="bold")
        began = time.monotonic()
        results = measured_flow(run.config)
        if not results.cached:
            progress.took[run.name] = time.monotonic() - began
        found = scores_of(read_results(Place(run.config.name, run.config.execution).store.fetch(results.artifact)))
        scores.setdefault(run.seed, {}).update({f"{run.name}/{key}": value for key, value in found.items()})
    return scores


def main(
    home: Annotated[Path, typer.Option(help="Keeps artifacts, pages and results; a run goes on from what is there.")] = Path(
        ".modelyard/findings"
    ),
    seeds: Annotated[int, typer.Option(min=1, help="Two at least for an interval.")] = 5,
    threads: int = 2,
    tiny: Annotated[bool, typer.Option("--tiny", help="The smallest models that go through; their verdicts mean nothing.")] = False,
    report: Annotated[Path | None, REPORT] = None,
    plot_file: Annotated[Path | None, typer.Option("--plot")] = None,
) -> int:
    """Train and measure what is missing, then judge, print and draw."""
    home = at_home(home)
    runs = planned(home, seeds, threads, tiny)
    if not (sums := home / "inputs" / SUMS).is_file():
        write_sums(runs[0].config, sums)
    scores: dict[int, dict[str, float]] = {}
    code = run_from_terminal(CONFIGS, (), lambda *_: runs, lambda runs: scores.update(gone_through(runs)))
    if code != DONE:
        return code
    findings, out = judged(scores), terminal.console()
    for table in (score_table(scores), finding_table(findings)):
        out.print(table)
    kept, drawn = report or home / "findings.json", plot_file or home / "findings.png"
    kept.write_text(json.dumps({"tiny": tiny, "scores": scores, "findings": [one.plain() for one in findings]}, indent=1) + "\n", "utf-8")
    plot(scores, drawn)
    out.print(f"{kept}, {drawn}", highlight=False)
    return DONE


if __name__ == "__main__":
    sys.exit(program(main))
