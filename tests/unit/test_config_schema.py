"""The schema that editors read accepts every shipped config as its file stands, and marks what reading it would refuse."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from modelyard.commands.app import main
from modelyard.commands.schema import Kind, schema_text

ROOT = Path(__file__).parents[2]
SHIPPED = {
    Kind.pipeline: [*ROOT.glob("configs/pipeline/*.toml"), *ROOT.glob("configs/recipes/*.toml")],
    Kind.suite: [*ROOT.glob("configs/evals/*.toml")],
    Kind.exam: [*ROOT.glob("configs/exams/*/*.toml")],
    Kind.layout: [*ROOT.glob("configs/model/*.toml")],
    Kind.rubric: [*ROOT.glob("configs/rubrics/*.toml")],
    Kind.rules: [*ROOT.glob("configs/harm_rules/*.toml")],
    Kind.data: [*ROOT.glob("configs/data/*.toml")],
    Kind.desk: [*ROOT.glob("configs/desk/*.toml")],
    Kind.batch: [*ROOT.glob("configs/label/*.toml")],
}


@pytest.fixture(scope="module")
def pipeline() -> Draft202012Validator:
    return Draft202012Validator(json.loads(schema_text(Kind.pipeline)))


@pytest.mark.parametrize("kind", Kind)
def test_every_shipped_config_fits_the_schema_of_its_kind(kind: Kind, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", kind]) == 0
    schema = json.loads(capsys.readouterr().out)
    Draft202012Validator.check_schema(schema)
    assert SHIPPED[kind]
    for file in SHIPPED[kind]:
        errors = [f"{file.name}: {error.json_path}: {error.message}" for error in Draft202012Validator(schema).iter_errors(toml(file))]
        assert errors == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"sfx": {}},
        {"sft": {"batches": 4}},
        {"sft": {"batch": "four"}},
        {"base": {"kind": "imported"}},
        {"corpus": {"sources": {"mine": {"path": "a", "format": "docx"}}}},
        {"evals": {"benchmarks": {"mmlu": {"shot": 5}}}},
        {"release": {"limits": {"mmlu": {"tolerance": -1}}}},
        {"extends": 3},
        {"replaces": "policy"},
        {"policy": {"algorithm": "grpo", "gae_lambda": 0.9}},
    ],
)
def test_what_reading_would_refuse_is_marked(pipeline: Draft202012Validator, wrong: dict[str, Any]) -> None:
    assert list(pipeline.iter_errors(wrong))


def test_every_key_has_a_description(pipeline: Draft202012Validator) -> None:
    schema = pipeline.schema
    for name, table in {"": schema, **schema["$defs"]}.items():
        for key, value in table["properties"].items():
            table_of = schema["$defs"].get(value.get("$ref", "").rpartition("/")[2], {})
            assert "description" in {**table_of, **value}, f"{name}.{key}"


def toml(file: Path) -> dict[str, Any]:
    return tomllib.loads(file.read_text("utf-8"))
