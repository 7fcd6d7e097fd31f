"""Adapters instead of full training: PEFT's numbers and files, what is kept, one body for PPO's four models, resume bit for bit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from pydantic import ValidationError
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from modelyard.execution import ExecutionConfig
from modelyard.model import model_directory
from modelyard.model.checkpoints import checkpoint
from modelyard.model.encoder import Encoder
from modelyard.model.hf.conversion import import_hf, read_safetensors
from modelyard.model.hf.weights import read_checkpoint
from modelyard.model.network.lora import is_adapter
from modelyard.model.training.batch import Batch
from modelyard.model.training.engine import Engine
from modelyard.posttrain import sft
from modelyard.posttrain.policy import loop
from modelyard.posttrain.scores import score
from modelyard.progress import silent
from modelyard.release import export

from .conftest import ALL, SOME, optimizer
from .policy.policies import Inputs, grpo_config, ppo_config
from .policy.policies import run as run_policy
from .preference.preferences import kwise_config
from .preference.preferences import run as run_preference
from .test_sft_reward import sft_config

pytestmark = pytest.mark.numerics


def exported(directory: Path, out: Path) -> Path:
    export.run(export.ExportConfig(), {"policy": directory}, out, silent)
    return out


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_sft_by_adapters_is_what_peft_computes_and_merges(precision: str, world: Inputs, tmp_path: Path) -> None:
    execution, out = ExecutionConfig(log_every=100, threads=1), tmp_path / "out"
    out.mkdir()
    lora = ALL if precision == "fp32" else SOME
    sft.run(sft_config(epochs=2, lora=lora, precision=precision), world, out, tmp_path / "ck", execution, silent)
    base = model_directory.load(world["base"], execution, precision=precision)
    model_directory.write(base, world["tokens"], loop.trainer.History(), tmp_path / "base")
    below, merged = exported(tmp_path / "base", tmp_path / "hf-base"), exported(out, tmp_path / "hf")
    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(below, dtype="auto"), out / "adapter").eval()
    if precision == "fp32":
        ours = model_directory.load(world["base"], execution, precision="fp32", lora=lora)
        model_directory.adapter_file.take(ours, model_directory.adapter_file.read(out / "adapter"))
        tokens = torch.randint(0, 320, (3, 20), generator=torch.Generator().manual_seed(0))
        found = ours.evaluate(Batch(tokens[:, :-1], tokens[:, 1:], {}), 1)
        with torch.no_grad():
            expected = torch.log_softmax(theirs(tokens[:, :-1]).logits, -1).gather(2, tokens[:, 1:, None]).squeeze(2)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    wholes = theirs.merge_and_unload().state_dict()
    weights = read_safetensors(merged)
    assert set(weights) <= set(wholes)
    assert all(torch.equal(weights[name], wholes[name]) for name in weights)
    import_hf(below, tmp_path / "imported", adapter=out / "adapter")
    again, ours = (read_checkpoint(path / "checkpoint") for path in (tmp_path / "imported", out))
    assert again.keys() == ours.keys()
    assert all(torch.equal(again[name], ours[name]) for name in ours)
    before = read_safetensors(below)
    moved = {name.split(".")[-2] for name in weights if not torch.equal(weights[name], before[name])}
    assert moved == set(lora.targets)


def test_checkpoints_hold_the_adapters_and_name_the_weights_below_them(adapted: Inputs) -> None:
    newest = sorted(adapted["kept"].glob("step_*"))[-1]
    names = {
        name.removeprefix("optimizer.state.exp_avg.") for name in read_checkpoint(newest) if name.startswith("optimizer.state.exp_avg.")
    }
    stored = {name for name in read_checkpoint(newest) if not name.startswith("optimizer.")}
    assert names == stored
    assert all(is_adapter(name) for name in names)
    assert checkpoint.note(newest)["base"] == checkpoint.identity(adapted["base"] / "checkpoint")
    other = model_directory.load(adapted["sft"], ExecutionConfig(threads=1), lora=ALL, optim=optimizer(1e-3))
    with pytest.raises(ValueError, match="adapters were trained on other weights"):
        other.load(newest)


def test_reward_models_adapter_file_has_the_head_and_loads_as_the_merged_model(adapted: Inputs) -> None:
    execution = ExecutionConfig(threads=1)
    body = model_directory.load(adapted["sft"], execution)
    on_body = model_directory.load(adapted["reward"], execution, body=body)
    alone = model_directory.load(adapted["reward"], execution)
    assert on_body.lora == SOME.model_copy(update={"dropout": 0.0})
    assert alone.lora is None
    encoder = Encoder(adapted["sft"])
    texts = [encoder.document(text) for text in ("the film is good today", "the plot is dull again")]
    pairs = zip(score(on_body, texts, encoder.padding), score(alone, texts, encoder.padding), strict=True)
    assert all(one == pytest.approx(other, abs=1e-5) for one, other in pairs)
    assert {name for name in load_file(adapted["reward"] / "adapter" / "adapter_model.safetensors") if "score" in name} == {
        "base_model.model.score.weight",
        "base_model.model.score.bias",
    }


def storages(engine: Engine) -> set[int]:
    own = ((name, parameter) for name, parameter in engine.gpt.named_parameters() if not is_adapter(name))
    return {parameter.data_ptr() for name, parameter in own if "output_layer" not in name}


def test_ppo_by_adapters_has_four_models_on_one_body_which_does_not_move(adapted: Inputs, tmp_path: Path) -> None:
    execution = ExecutionConfig(threads=1)
    config = ppo_config(lora=ALL, optimizer=optimizer(5e-3))
    training = loop.prepare(config, adapted, execution)
    models = training.models
    assert models.value is not None
    assert training.ema is not None
    assert all(storages(engine) == storages(models.actor) for engine in (models.reference, models.reward, models.value, training.ema))
    before = {name: parameter.clone() for name, parameter in models.reference.gpt.named_parameters()}
    drawn = loop.sampled(config, training, 0)
    torch.testing.assert_close(drawn.logprobs, drawn.reference_logprobs, atol=1e-6, rtol=0)
    trained = [parameter.detach().clone() for engine in (models.actor, models.value) for parameter in engine.trained()]
    loop.update(config, training, drawn, 0, 0.05)
    after = [parameter for engine in (models.actor, models.value) for parameter in engine.trained()]
    assert sum(not torch.equal(old, new) for old, new in zip(trained, after, strict=True)) == len(after)
    assert all(torch.equal(before[name], parameter) for name, parameter in models.reference.gpt.named_parameters())


def test_ppo_by_adapters_on_a_reward_model_of_full_training_has_two_bodies(inputs: Inputs) -> None:
    models = loop.prepare(ppo_config(lora=ALL), inputs, ExecutionConfig(threads=1)).models
    assert models.value is not None
    assert storages(models.reference) == storages(models.actor)
    assert storages(models.value) == storages(models.reward)
    assert not storages(models.value) & storages(models.actor)
    assert models.value.lora == ALL


def test_ppo_by_adapters_killed_and_resumed_equals_uninterrupted_bit_for_bit(adapted: Inputs, tmp_path: Path) -> None:
    execution = ExecutionConfig(checkpoint_iterations=2, threads=1)
    config = ppo_config(iterations=3, lora=ALL, optimizer=optimizer(5e-3))
    whole = run_policy(config, adapted, tmp_path / "whole", execution)

    def killed(done: int, total: int, metrics: Mapping[str, float] = {}, unit: str = "step") -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_policy(config, adapted, tmp_path / "cut", execution, killed)
    assert run_policy(config, adapted, tmp_path / "cut", execution) == whole
    left, right = (read_checkpoint(tmp_path / name / "out" / "checkpoint") for name in ("whole", "cut"))
    assert all(torch.equal(left[key], right[key]) for key in left)
    base = json.loads((tmp_path / "whole" / "out" / "adapter" / "base.json").read_text())
    assert base["checkpoint"] == checkpoint.identity(adapted["sft"] / "checkpoint")
    assert base["name"] == "sft/0001"


def test_dpo_by_adapters_learns_and_is_measured_against_its_own_body(adapted: Inputs, tmp_path: Path) -> None:
    metrics = run_preference(kwise_config(epochs=1.0, lora=ALL, optimizer=optimizer(5e-3)), adapted, tmp_path, ExecutionConfig(threads=1))
    assert metrics["policy/objective/kl"] > 0
    assert metrics["policy/train/accuracy"] > 0.6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rank": 0}, "greater than or equal to 1"),
        ({"alpha": 0}, "greater than 0"),
        ({"dropout": 1.0}, "less than 1"),
        ({"targets": ["lm_head"]}, "lm_head|q_proj"),
        ({"targets": []}, "at least one matrix"),
        ({"targets": ["q_proj", "q_proj"]}, "q_proj is there twice"),
    ],
)
def test_adapters_that_mean_nothing_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        sft_config(lora={"rank": 4, "alpha": 4.0, "targets": ["q_proj"], **change})


def test_foreign_adapter_that_is_no_plain_lora_is_refused(adapted: Inputs, tmp_path: Path) -> None:
    config = json.loads((adapted["sft"] / "adapter" / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps({**config, "use_dora": True}))
    with pytest.raises(ValueError, match="use_dora True is not supported"):
        model_directory.adapter_file.read(tmp_path)


@pytest.mark.sampled
def test_grpo_by_adapters_without_kl_charge_raises_the_reward(inputs: Inputs, tmp_path: Path) -> None:
    free = {"iterations": 16, "episodes": 32, "micro_batch": 8, "ema_decay": 0.0, "kl_coef": 0.0, "ptx_rows": 0, "ptx_coef": 0.0}
    config = grpo_config(**free, lora=ALL, optimizer=optimizer(6e-3), final_episodes=128)
    metrics = run_policy(config, inputs, tmp_path, ExecutionConfig(threads=1))
    assert metrics["policy/objective/reward_low"] > metrics["policy/reference/reward"] + 0.25 * metrics["policy/reference/reward_std"]
