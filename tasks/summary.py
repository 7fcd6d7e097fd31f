"""The line's result for people: the last screen of the terminal and the same as Prefect artifacts."""

from __future__ import annotations

import json
from collections.abc import Sequence

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from modelyard.adapters import terminal
from modelyard.adapters.servers import ui
from modelyard.printable import markdown
from modelyard.store.manifest import Artifact
from tasks.build import Place
from tasks.release import Released, against, overridden

SHOWN_AS = {"base": "base", "no_contam": "base, no contamination", "no_vision": "SFT, no vision", "sft": "SFT", "policy": "policy"}


@task(name="summary", task_run_name="summary", retries=1, timeout_seconds=300)
def summary_task(place: Place, stages: Sequence[terminal.StageLine], results: Artifact, released: Released) -> None:
    """Show stages, samples, gates, decision and alias."""
    samples = [
        terminal.Sample(entry["prompt"], {shown: entry[model] for model, shown in SHOWN_AS.items() if model in entry})
        for entry in json.loads((place.store.fetch(results) / "samples.json").read_text("utf-8"))
    ]
    verdict, moved = released.verdict, released.moved
    summary = terminal.Summary(
        stages=stages,
        samples=samples,
        gates=[terminal.GateLine(gate.name, gate.shown, f"{gate.reason}{overridden(gate)}") for gate in verdict.gates],
        decision=against(verdict),
        alias="; ".join(f"alias {m.alias} of {place.line}: version {m.before or 'none'} -> {m.after}" for m in moved)
        or f"no alias of {place.line} moved",
        pages=f"model card: {place.link(released.decided)}/card.html\n{_pages()}",
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
            {"stage": s.stage, "seconds": round(s.seconds, 1), "": "cached" if s.cached else "built", "metric": markdown(s.metric)}
            for s in summary.stages
        ],
        description="Stages of the line",
    )
    gates = [{key: markdown(said) for key, said in gate._asdict().items()} for gate in summary.gates]
    create_table_artifact(key="gates", table=gates, description=markdown(summary.decision))
    lines = [f"## {markdown(summary.decision)}", "", markdown(summary.alias), ""]
    for sample in summary.samples:
        said = [f"- {model}: {markdown(text)}" for model, text in sample.completions.items()]
        lines += [f"**{markdown(sample.opening)}**", "", *said, ""]
    create_markdown_artifact(key="result", markdown="\n".join(lines), description="Decision and sample completions")
