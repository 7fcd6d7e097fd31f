"""The line's result for people: the last screen of the terminal and the same as Prefect artifacts."""

from __future__ import annotations

import json
from collections.abc import Sequence

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from modelyard.adapters import terminal
from modelyard.adapters.mlflow.registry import Move
from modelyard.adapters.servers import ui
from modelyard.release.gates.gate import Decision
from modelyard.store.artifacts import Built
from tasks.build import Place, line_of
from tasks.release import against, set_aside

MODELS = ("base", "sft", "policy")
SHOWN_AS = {"base": "base", "sft": "SFT", "policy": "PPO"}


@task(name="summary", task_run_name="summary", retries=1, timeout_seconds=300)
def summary_task(place: Place, stages: Sequence[Built], results: Built, verdict: Decision, moved: Sequence[Move]) -> None:
    """Show stages, samples, gates, decision and alias."""
    directory = place.store.fetch(results.artifact)
    samples = [
        terminal.Sample(entry["prompt"], {SHOWN_AS[model]: entry[model] for model in MODELS})
        for entry in json.loads((directory / "samples.json").read_text("utf-8"))
    ]
    card = next(f"{place.link(built.artifact)}/card.html" for built in stages if built.artifact.name in ("decision", "sign_off"))
    summary = terminal.Summary(
        stages=[line_of(built) for built in stages],
        samples=samples,
        gates=[terminal.GateLine(gate.name, gate.verdict, f"{gate.reason}{set_aside(gate)}") for gate in verdict.gates],
        decision=against(verdict),
        alias="; ".join(f"alias {m.alias} of {place.line}: version {m.before or 'none'} -> {m.after}" for m in moved)
        or f"no alias of {place.line} moved",
        pages=f"model card: {card}\n{_pages()}",
    )
    terminal.show_summary(summary, terminal.console())
    _publish(summary)


@task(name="result", task_run_name="result", retries=1, timeout_seconds=300)
def refusals_summary_task(place: Place, stages: Sequence[Built], refusals: Built) -> None:
    """Show the stages of a line with an imported base, what was refused before and after, and replies of every model."""
    directory, metrics = place.store.fetch(refusals.artifact), refusals.artifact.metrics
    answered = {name: [json.loads(line) for line in (directory / f"{name}.jsonl").read_text("utf-8").splitlines()] for name in MODELS}
    first_unsafe = next((number for number, row in enumerate(answered["base"]) if row["group"] == "unsafe"), 0)
    said = [
        f"{SHOWN_AS[name]}: refuses {terminal.with_interval(metrics, f'refusals/{name}/refusal')} of unsafe prompts, "
        f"{terminal.with_interval(metrics, f'refusals/{name}/over_refusal')} of safe ones"
        for name in MODELS
    ]
    summary = terminal.Summary(
        stages=[line_of(built) for built in stages],
        samples=[
            terminal.Sample(answered["base"][n]["prompt"], {SHOWN_AS[name]: answered[name][n]["output"] for name in MODELS})
            for n in (first_unsafe, 0, 1)
        ],
        gates=(),
        decision="",
        alias="\n".join(said),
        pages=_pages(),
    )
    terminal.show_summary(summary, terminal.console())
    _publish(summary)


def _pages() -> str:
    """Where this and earlier runs can be looked at."""
    return ui.named_pages().rstrip() or "make ui opens the Prefect and MLflow pages of this and earlier runs"


def _publish(summary: terminal.Summary) -> None:
    create_table_artifact(
        key="stages",
        table=[
            {"stage": s.stage, "seconds": round(s.seconds, 1), "": "cached" if s.cached else "built", "metric": s.metric}
            for s in summary.stages
        ],
        description="Stages of the line",
    )
    create_table_artifact(key="gates", table=[gate._asdict() for gate in summary.gates], description=summary.decision)
    lines = [f"## {summary.decision}", "", summary.alias, ""]
    for sample in summary.samples:
        lines += [f"**{sample.opening}**", "", *(f"- {model}: {text}" for model, text in sample.completions.items()), ""]
    create_markdown_artifact(key="result", markdown="\n".join(lines), description="Decision and sample completions")
