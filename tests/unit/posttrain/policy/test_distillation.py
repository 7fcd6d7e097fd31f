"""Policies that a teacher distills on their own samples: what they learn, what is recorded of the teacher, and which teachers are refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from modelyard.execution import ExecutionConfig
from modelyard.model import model_directory
from modelyard.posttrain.policy import loop
from modelyard.store.file_hash import sha256_tree
from tests.unit import small_model
from tests.unit.posttrain.conftest import optimizer

from .policies import Inputs, opd_config, run

pytestmark = pytest.mark.numerics


@pytest.mark.sampled
def test_distilled_policy_comes_close_to_its_teacher_and_names_it(
    inputs: Inputs, teacher: Path, tmp_path: Path, execution: ExecutionConfig
) -> None:
    free = {"iterations": 12, "episodes": 32, "micro_batch": 8, "ema_decay": 0.0, "ptx_coef": 0.0, "ptx_rows": 0, "final_episodes": 64}
    metrics = run(opd_config(**free, optimizer=optimizer(3e-3)), inputs, tmp_path, execution)
    assert metrics["policy/objective/teacher_kl_high"] < 0.5 * metrics["policy/reference/teacher_kl"]
    assert metrics["policy/objective/reward_low"] > metrics["policy/reference/reward"], "the teacher was shown what is liked"
    assert metrics["policy/objective/objective"] == pytest.approx(-metrics["policy/objective/teacher_kl"], rel=1e-6)
    assert metrics["policy/objective/kl_low"] > 0, "the distance from the SFT model is measured all the same"
    (row,) = json.loads((tmp_path / "out" / "sources.json").read_text())
    assert row == {
        "name": "Elder-1",
        "package": "teacher",
        "version": "",
        "sha256": sha256_tree(teacher / "checkpoint"),
        "licence": "Apache-2.0",
    }


def test_teacher_that_is_not_the_configs_or_has_other_tokens_is_refused(
    inputs: Inputs, teacher: Path, tmp_path: Path, execution: ExecutionConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    meant = opd_config()
    monkeypatch.setenv("MODELYARD_TEACHER", str(inputs["sft"]))
    with pytest.raises(ValueError, match=r"its weights are [0-9a-f]{16}, not teacher.weights"):
        loop.prepare(meant, inputs, execution)
    small_model.write(tmp_path)
    monkeypatch.setenv("MODELYARD_TEACHER", str(tmp_path / "ours"))
    with pytest.raises(ValueError, match=r"teacher: its vocabulary is not the line's \(\d+ of \d+ tokens differ, such as ") as refused:
        loop.prepare(opd_config(), inputs, execution)
    assert "\n" not in str(refused.value)


def test_teacher_with_another_chat_template_teaches_and_one_that_reads_too_little_is_refused(
    inputs: Inputs, teacher: Path, tmp_path: Path, execution: ExecutionConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    shutil.copytree(teacher, other)
    description = json.loads((other / "model.json").read_text())
    (other / "model.json").write_text(json.dumps({**description, "chat_template": ""}))
    (other / "tokenizer_config.json").write_text("{}")
    monkeypatch.setenv("MODELYARD_TEACHER", str(other))
    opened = loop.prepare(opd_config(precision="bf16"), inputs, execution).models.teacher
    assert opened is not None
    assert {parameter.dtype for parameter in opened.gpt.parameters()} == {torch.bfloat16}, "at the policy's precision"
    description["model"]["seq_len"] = 9
    (other / "model.json").write_text(json.dumps({**description, "chat_template": ""}))
    assert model_directory.read(other).model.seq_len == 9
    with pytest.raises(
        ValueError, match=r"teacher: reads 9 tokens, and a prompt with its completion has up to \d+; lower policy.max_prompt"
    ):
        loop.prepare(opd_config(), inputs, execution)


@pytest.mark.usefixtures("teacher")
@pytest.mark.parametrize(
    "changes",
    [
        {"kl_coef": 0.1},
        {"adaptive_kl": {"target": 1.0, "gain": 0.1}},
        {"reward_weight": 1.0},
        {"rewards": {}},
        {"group": 4},
        {"gae_lambda": 0.9},
        {"value_optimizer": optimizer(1e-3)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_distilled_config_keys_of_other_algorithms_are_unknown(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        opd_config(**changes)


@pytest.mark.usefixtures("teacher")
def test_distilled_config_teacher_behind_an_endpoint_is_refused() -> None:
    served = {"kind": "endpoint", "name": "Elder-1", "licence": "MIT", "model": "elder"}
    with pytest.raises(ValidationError, match="Input should be 'directory'"):
        opd_config(teacher=served)
