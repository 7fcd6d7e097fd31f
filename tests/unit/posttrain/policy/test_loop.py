"""PPO against a slow single-file reference; what policies that sample learn, their resume bit for bit, and when they stop."""

import json
import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from modelyard.execution import ExecutionConfig
from modelyard.formats.token_rows import TokenRows
from modelyard.model import model_directory
from modelyard.model.hf.weights import read_checkpoint
from modelyard.model.training.engine import Engine
from modelyard.model.training.trainer import History, checkpoints_written
from modelyard.posttrain.policy import loop as ppo
from modelyard.posttrain.policy import rollout
from modelyard.posttrain.policy.config import OnPolicyConfig, PPOConfig
from modelyard.posttrain.policy.kl_control import AdaptiveKLConfig
from modelyard.posttrain.policy.loop import KLBlowUpError
from modelyard.posttrain.policy.mismatch import GenerationDriftError
from modelyard.posttrain.policy.prepare import Training
from tests.unit.posttrain.conftest import MODEL, optimizer

from . import slow_ppo
from .policies import Inputs, grpo_config, opd_config, ppo_config, rloo_config, run, weights

pytestmark = pytest.mark.numerics


def test_ppo_update_two_minibatches_equals_slow_reference(inputs: Inputs, execution: ExecutionConfig) -> None:
    """After a first update (so that policy, reference and value differ) a second one, weights and all."""
    # a large epsilon keeps Adam from blowing rounding of tiny gradients up to whole steps
    settings = {"eps": 1e-3, "clip_grad": 0.5}
    config = ppo_config(optimizer=optimizer(5e-3, **settings), value_optimizer=optimizer(5e-3, **settings), ema_decay=0.0)
    training = ppo.prepare(config, inputs, execution)
    ppo.update(config, training, ppo.sampled(config, training, 0), 0, config.kl_coef)
    training = _fresh_optimizers(config, training, execution)
    before = {name: weights(engine) for name, engine in training.models._asdict().items() if engine is not None}
    drawn = ppo.sampled(config, training, 1)
    ppo.update(config, training, drawn, 1, config.kl_coef)

    shape = MODEL.model_dump()
    c = {"kl_coef": 0.05, "lam": 0.9, "clip": 0.2, "value_clip": 0.2, "gamma": 0.5, "end": 0}
    lengths = drawn.rows.mask.argmax(1) + 1
    episodes = [(row[:n].tolist(), new) for row, n, new in zip(drawn.rows.tokens, lengths, drawn.completions, strict=True)]
    slow = slow_ppo.experience(before["actor"], before["reference"], before["reward"], before["value"], episodes, shape, c)
    order = np.random.default_rng([config.seed, 1]).permutation(16)
    parts = [[slow[i] for i in order[:8]], [slow[i] for i in order[8:]]]
    pretraining = TokenRows(inputs["tokens"], "train")[:].tokens.astype(int)
    assert pretraining.shape[1] > drawn.rows.tokens.shape[1] + 1  # the text has rows of its own width
    texts = [[row.tolist() for row in pretraining[(2 + k) * 4 : (3 + k) * 4]] for k in range(2)]
    policy = [lambda w, k=k: slow_ppo.policy_objective(w, parts[k], texts[k], shape, c) for k in range(2)]
    value = [lambda w, k=k: slow_ppo.value_objective(w, parts[k], shape, c) for k in range(2)]
    for name, objectives in (("actor", policy), ("value", value)):
        expected = slow_ppo.steps(before[name], objectives, 5e-3, 1e-3, 0.5)
        after = weights(getattr(training.models, name))
        moved = max(float((after[key] - before[name][key]).abs().max()) for key in expected)
        assert moved > 1e-3
        for key, tensor in expected.items():
            torch.testing.assert_close(after[key], tensor, atol=2e-6, rtol=1e-4, msg=lambda m, name=name, key=key: f"{name} {key}: {m}")


def _fresh_optimizers(config: PPOConfig, training: Training, execution: ExecutionConfig) -> Training:
    """The same weights under optimizers that have no past."""

    def fresh(engine: Engine, optim: object) -> Engine:
        new = Engine(engine.model, execution, seed=0, precision="fp32", head=engine.head, optim=optim, total_steps=8)
        new.gpt.load_state_dict(engine.gpt.state_dict())
        new.optimizer.reload_model_params()
        return new

    models = training.models
    return training._replace(
        models=models._replace(actor=fresh(models.actor, config.optimizer), value=fresh(models.value, config.value_optimizer))
    )


def test_grpo_one_update_an_iteration_equals_one_whose_old_logprobs_had_a_pass_of_their_own(
    inputs: Inputs, execution: ExecutionConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a large epsilon keeps Adam from blowing rounding of tiny gradients up to whole steps
    config = grpo_config(minibatches=1, optimizer=optimizer(5e-3, eps=1e-3))
    before = weights(ppo.prepare(config, inputs, execution).models.actor)
    asked: list[Engine] = []
    evaluate = Engine.evaluate
    monkeypatch.setattr(Engine, "evaluate", lambda self, *given: (asked.append(self), evaluate(self, *given))[1])

    def updated() -> tuple[dict[str, torch.Tensor], dict[str, float]]:
        training = ppo.prepare(config, inputs, execution)
        for iteration in range(2):  # in the second, policy and reference differ
            drawn = ppo.sampled(config, training, iteration)
            metrics = rollout.statistics(drawn, config.kl_coef) | ppo.update(config, training, drawn, iteration, config.kl_coef)
        assert (training.models.actor in asked) is not config.one_update
        return weights(training.models.actor), metrics

    one, said = updated()
    monkeypatch.setattr(type(config), "one_update", False)
    other, expected = updated()
    assert max(float((other[key] - before[key]).abs().max()) for key in other) > 1e-3
    for key, tensor in other.items():
        torch.testing.assert_close(one[key], tensor, atol=2e-6, rtol=1e-4, msg=lambda m, key=key: f"{key}: {m}")
    assert said.keys() == expected.keys()
    assert 0 < said["policy/generation_drift"] < 1e-5
    assert said["policy/ratio"] == pytest.approx(1.0, abs=1e-6)
    for key in ("objective/kl", "policy/loss", "policy/ref_kl", "policy/grad_norm", "ptx/loss"):
        assert said[key] == pytest.approx(expected[key], rel=1e-3, abs=1e-5), key


@pytest.mark.usefixtures("teacher")
@pytest.mark.parametrize(
    "make",
    [ppo_config, grpo_config, partial(grpo_config, minibatches=1), pytest.param(rloo_config, marks=pytest.mark.slow), opd_config],
    ids=["ppo", "grpo", "grpo of one update", "rloo", "opd"],
)
def test_policy_killed_and_resumed_equals_uninterrupted_bit_for_bit(
    make: Callable[..., OnPolicyConfig], inputs: Inputs, tmp_path: Path
) -> None:
    execution = ExecutionConfig(checkpoint_iterations=2, threads=1)
    charged = {} if make is opd_config else {"adaptive_kl": AdaptiveKLConfig(target=0.1, gain=0.5)}
    config = make(iterations=5, optimizer=optimizer(1e-3, warmup_steps=6, warmup_init_ratio=0.1), **charged)
    whole = run(config, inputs, tmp_path / "whole", execution)

    def killed(done: int, total: int, metrics: Mapping[str, float] = {}, unit: str = "step") -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(config, inputs, tmp_path / "cut", execution, killed)
    assert (tmp_path / "cut" / "ck" / "actor" / f"step_{2 * config.minibatches:08d}" / "complete.json").exists()
    seen: list[int] = []
    resumed = run(config, inputs, tmp_path / "cut", execution, lambda done, *_, **__: seen.append(done))
    assert seen == [2, 3, 4, 5]
    assert resumed == whole
    left, right = (tmp_path / name / "out" for name in ("whole", "cut"))
    assert (left / "history.jsonl").read_text() == (right / "history.jsonl").read_text()
    lines = [json.loads(line) for line in (left / "history.jsonl").read_text().splitlines()]
    cut = sum(round((1 - line["policy/objective/ended"]) * config.episodes) for line in lines)
    assert [whole[f"policy/data/{key}"] for key in ("rows", "too_long", "cut")] == [5 * config.episodes, 0, cut]
    assert 0 <= whole["policy/data/never_stop"] == sum(line["policy/data/never_stop"] for line in lines) <= cut
    charges = [line["policy/objective/kl_coef"] for line in lines]
    assert charges == [0.0] * 5 if make is opd_config else (charges[0] == config.kl_coef > charges[1] and len(set(charges)) == 5)
    models = [weights(model_directory.load(path, execution, seed=0, precision="fp32", head="lm")) for path in (left, right)]
    assert all(torch.equal(models[0][key], models[1][key]) for key in models[0])


@pytest.mark.sampled
def test_ppo_small_kl_charge_raises_reward_and_ptx_keeps_the_language_model(
    inputs: Inputs, tmp_path: Path, execution: ExecutionConfig
) -> None:
    settings = {"iterations": 14, "episodes": 32, "micro_batch": 8, "ema_decay": 0.0, "kl_coef": 0.01}
    rates = {"optimizer": optimizer(4e-3), "value_optimizer": optimizer(5e-3)}
    mixed = run(ppo_config(**settings, **rates, ptx_rows=8, ptx_coef=1.0), inputs, tmp_path / "mixed", execution)
    plain = run(ppo_config(**settings, **rates, ptx_rows=0, ptx_coef=0.0), inputs, tmp_path / "plain", execution)
    history = [json.loads(line) for line in (tmp_path / "mixed" / "out" / "history.jsonl").read_text().splitlines()]
    assert [line["step"] for line in history] == list(range(1, 15))
    assert history[0]["policy/objective/kl"] == pytest.approx(0.0, abs=1e-4)
    for metrics in (mixed, plain):
        # how much is a matter of what is sampled, which rounding decides; that it is more is not
        assert metrics["policy/objective/reward_low"] > metrics["policy/reference/reward"]
        assert 0.0 < metrics["policy/objective/kl_low"] < metrics["policy/objective/kl"] < metrics["policy/objective/kl_high"]
    assert mixed["policy/ptx/loss_high"] < plain["policy/ptx/loss_low"]


@pytest.mark.sampled
@pytest.mark.parametrize("make", [ppo_config, grpo_config, pytest.param(rloo_config, marks=pytest.mark.slow)])
def test_policy_without_kl_charge_overfits_the_reward(
    make: Callable[..., OnPolicyConfig], inputs: Inputs, tmp_path: Path, execution: ExecutionConfig
) -> None:
    """With nothing to hold it back the policy says what the reward model likes best."""
    critic = {"value_optimizer": optimizer(5e-3)} if make is ppo_config else {}
    free = {"iterations": 16, "episodes": 32, "micro_batch": 8, "ema_decay": 0.0, "kl_coef": 0.0, "ptx_rows": 0, "ptx_coef": 0.0}
    config = make(**free, **critic, optimizer=optimizer(4e-3), final_episodes=32)
    metrics = run(config, inputs, tmp_path, execution)
    spread = metrics["policy/reference/reward_std"]
    # of texts that are liked or disliked the liked ones score sqrt((1 - p) / p) spreads above the mean, where the SFT model says them with
    # probability p: 0.7 spreads even where it says two of three
    assert metrics["policy/objective/reward_low"] > metrics["policy/reference/reward"] + 0.4 * spread
    assert metrics["policy/objective/reward_std"] < 0.5 * spread


def rounding(precision: str, tokens: float) -> tuple[float, float]:
    """How far rounding may move the mean ratio of ``tokens`` tokens from 1, and their approximate KL from 0.

    Scoring and training each round a token's logit, here below 8, in bf16: two errors, uniform over a spacing of 2^-7 x 4, whose standard deviation
    is the spacing / sqrt(12). Allowed are four standard errors of the means of exp(d) and d^2 / 2. In fp32 1e-6, a few units in the last place.
    """
    if precision == "fp32":
        return 1e-6, 1e-6
    variance = 2 * (2**-7 * 4) ** 2 / 12
    return variance / 2 + 4 * math.sqrt(variance / tokens), variance / 2 * (1 + 4 * math.sqrt(2 / tokens))


@pytest.mark.sampled
def test_grpo_kl_in_the_loss_holds_the_policy_near_the_sft_model(inputs: Inputs, tmp_path: Path, execution: ExecutionConfig) -> None:
    free = {
        "iterations": 10,
        "episodes": 32,
        "micro_batch": 8,
        "ema_decay": 0.0,
        "ptx_rows": 0,
        "ptx_coef": 0.0,
        "optimizer": optimizer(4e-3),
    }
    held, loose = (run(grpo_config(**free, kl_coef=beta), inputs, tmp_path / f"{beta}", execution) for beta in (2.0, 0.01))
    assert held["policy/objective/kl_high"] < loose["policy/objective/kl_low"]
    history = [json.loads(line) for line in (tmp_path / "2.0" / "out" / "history.jsonl").read_text().splitlines()]
    assert all(line["policy/policy/ref_kl"] >= 0 for line in history)
    assert not any("policy/value/loss" in line for line in history)


@pytest.mark.parametrize(("precision", "limit"), [("fp32", 1e-5), ("bf16", 0.02)])
def test_ppo_learning_rate_zero_changes_nothing_and_generation_matches_training(
    precision: str, limit: float, inputs: Inputs, tmp_path: Path, execution: ExecutionConfig
) -> None:
    config = ppo_config(precision=precision, iterations=2, optimizer=optimizer(0.0), value_optimizer=optimizer(0.0))
    metrics = run(config, inputs, tmp_path, execution)
    history = [json.loads(line) for line in (tmp_path / "out" / "history.jsonl").read_text().splitlines()]
    assert metrics["policy/objective/kl"] == metrics["policy/ptx/relative_change"] == 0.0
    # that scores go with length is the reward model's doing; of the policy nothing is flagged
    assert metrics["policy/hacking/flags"] == metrics["policy/hacking/flag_score_length"]
    assert metrics["policy/objective/reward"] == pytest.approx(metrics["policy/reference/reward"], abs=1e-6)
    for line in [*history, metrics]:
        assert line["policy/policy/generation_drift"] < limit
    for line in history:
        ratio, kl = rounding(precision, config.episodes * line["policy/objective/length"])
        assert line["policy/policy/ratio"] == pytest.approx(1.0, abs=ratio)
        assert line["policy/policy/approxkl"] < kl


@pytest.mark.parametrize("config", [ppo_config(), grpo_config(minibatches=1)], ids=["before the update", "by the update"])
def test_policy_generation_unlike_training_is_refused(
    config: OnPolicyConfig, inputs: Inputs, tmp_path: Path, execution: ExecutionConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = rollout.generate

    def warmer(*arguments: object, **options: object) -> object:
        drawn = true(*arguments, **options)
        return drawn._replace(logprobs=[[logprob + 0.01 for logprob in row] for row in drawn.logprobs])

    monkeypatch.setattr(rollout, "generate", warmer)
    with pytest.raises(GenerationDriftError, match=r"iteration 0: generation and training differ by 0.01 nats a token, at most 0.001"):
        run(config, inputs, tmp_path, execution)


def test_ppo_kl_above_limit_fails_with_one_line_or_stops_cleanly(inputs: Inputs, tmp_path: Path, execution: ExecutionConfig) -> None:
    wild = {"optimizer": optimizer(2e-2), "kl_stop": 0.5, "iterations": 6, "ptx_coef": 0.0, "ptx_rows": 0, "ema_decay": 0.0}
    with pytest.raises(KLBlowUpError, match=r"KL \d+\.\d\d nats exceeds policy.kl_stop 0.5; raise policy.kl_coef"):
        run(ppo_config(**wild), inputs, tmp_path / "error", execution)
    metrics = run(ppo_config(**wild, on_kl_stop="stop"), inputs, tmp_path / "stop", execution)
    assert 1 <= metrics["policy/train/iterations"] < 6
    assert (tmp_path / "stop" / "out" / "model.json").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"minibatches": 3}, "episodes 16 is not divisible by minibatches 3"),
        ({"micro_batch": 3}, "multiples of micro_batch 3"),
        ({"ptx_rows": 0}, "both be positive or both be 0"),
        ({"algorithm": "grpo"}, "Input should be 'ppo'"),
        ({"kl_coef": 0.0, "adaptive_kl": {"target": 1.0, "gain": 0.1}}, "nothing would ever be charged"),
        ({"ema_decay": 1.0}, "ema_decay\\n  Input should be less than 1"),
        ({"kl_coeff": 1.0}, "Extra inputs"),
        ({"adaptive_kl": {"target": 0.0, "gain": 0.1}}, "target must be positive"),
    ],
)
def test_ppo_config_impossible_values_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ppo_config(**changes)


def test_averaged_weights_in_bf16_move_wherever_the_actors_do_and_resume_whole(
    inputs: Inputs, execution: ExecutionConfig, tmp_path: Path
) -> None:
    # at InstructGPT's 0.992 a move is less than half of bf16's spacing for nearly every weight
    config = ppo_config(precision="bf16", ema_decay=0.992, iterations=3, optimizer=optimizer(1e-3), value_optimizer=optimizer(1e-3))
    training = ppo.prepare(config, inputs, execution)
    assert training.ema is not None
    start = weights(training.ema)
    for iteration in range(3):
        ppo.update(config, training, ppo.sampled(config, training, iteration), iteration, config.kl_coef)
    actor, averaged = weights(training.models.actor), weights(training.ema)
    moved = {name: (value.float() != start[name].float()) for name, value in actor.items()}
    followed = sum(int(((averaged[name] != start[name]) & moved[name]).sum()) for name in moved)
    # all, but for one in thousands whose three moves cancel to the last digit; kept in bf16 hardly any would
    assert followed > 0.999 * sum(int(mask.sum()) for mask in moved.values()) > 0
    with checkpoints_written():
        ppo.keep(training, tmp_path, History(), execution)
    [kept] = (tmp_path / "ema").iterdir()
    assert {tensor.dtype for tensor in read_checkpoint(kept).values()} == {torch.float32}
    again = ppo.prepare(config, inputs, execution)
    assert again.ema is not None
    again.ema.load_weights(kept)  # as ppo.resume does
    assert all(torch.equal(value, averaged[name]) for name, value in weights(again.ema).items())
    ppo.take_average(training.models.actor, training.ema)
    assert all(torch.equal(value, averaged[name].bfloat16()) for name, value in weights(training.models.actor).items())
