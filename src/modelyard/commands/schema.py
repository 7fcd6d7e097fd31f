"""``modelyard schema``: what a config may hold, as JSON schema for editors.

An editor that reads TOML schemas takes it from the first line of a config: ``#:schema ./pipeline.schema.json``.
"""

from __future__ import annotations

import importlib
import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelyard.commands.command import say
from modelyard.commands.outputs import writable, write
from modelyard.commands.project import part

if TYPE_CHECKING:
    from modelyard.config import Config

Kind = StrEnum("Kind", ["pipeline", "data", "suite", "exam", "layout", "rubric", "rules", "desk", "batch"])
CONFIGS = {
    Kind.pipeline: ("flows.pipeline_config", "PipelineConfig"),
    Kind.data: ("modelyard.data.build", "DataConfig"),
    Kind.suite: ("modelyard.evals.suite", "SuiteConfig"),
    Kind.exam: ("modelyard.evals.exams", "Exam"),
    Kind.layout: ("modelyard.model.plan.layout_search", "PlanConfig"),
    Kind.rubric: ("modelyard.judges.rubric", "Rubric"),
    Kind.rules: ("modelyard.judges.harm_rules", "HarmRules"),
    Kind.desk: ("modelyard.desk.settings", "DeskConfig"),
    Kind.batch: ("modelyard.desk.work.batches", "BatchConfig"),
}
"""Kind of file -> module and class that read it."""
KIND = typer.Argument(
    help="Which file: a pipeline's, or that of modelyard data, eval --suite, an exam, layout, judge, harms --rules, desk or label."
)


def schema(
    kind: Annotated[Kind, KIND] = Kind.pipeline,
    out: Annotated[Path | None, typer.Option(help="File to write; without it, standard output.", callback=writable)] = None,
) -> None:
    """Print the JSON schema of a config, for completion and checks in an editor."""
    text = schema_text(kind)
    if out is None:
        say(text, nl=False)
    else:
        write(out, text)


def schema_text(kind: Kind) -> str:
    """The schema of a kind of file, as JSON."""
    from modelyard.config_schema import editor_schema

    return json.dumps(editor_schema(config_class(kind)), indent=1, ensure_ascii=False) + "\n"


def config_class(kind: Kind) -> type[Config]:
    """What reads a kind of file."""
    module, name = CONFIGS[kind]
    found: type[Config] = getattr(part(module) if module.startswith("flows.") else importlib.import_module(module), name)
    return found
