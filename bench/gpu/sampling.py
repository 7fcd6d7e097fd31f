"""Generation beside transformers' ``generate``, and iterations of PPO with their parts, on one GPU."""

from __future__ import annotations

import functools
import statistics
from typing import Any

import torch

from bench.generate import same_weights
from bench.gpu.timing import each, peak_gib
from bench.policies import ppo_config, training_of
from bench.shapes import SMOLLM2, llama
from modelyard.execution import ExecutionConfig
from modelyard.model.inference.generate import generate
from modelyard.model.network.architecture import ModelConfig
from modelyard.model.training.engine import Engine
from modelyard.posttrain.policy import loop as ppo
from modelyard.posttrain.policy.config import PPOConfig
from modelyard.posttrain.policy.prepare import Training
from modelyard.posttrain.policy.rollout import Rollout
from modelyard.posttrain.policy.update import update

MODELS: dict[str, ModelConfig] = {
    "smollm2": SMOLLM2.model_copy(update={"seq_len": 1024}),
    "350M": llama(24, 1024, 16, 16, 2816, 50_304, 2048),
    "tiny": llama(2, 64, 4, 2, 176, 512, 64),
}
PROMPT = 64


def generation(shape: str, batch: int, tiny: bool) -> dict[str, Any]:
    """New tokens/s in bf16, greedy, equal prompts; ours also returns log-probabilities. ``compiled``:
    ``execution.compile``.
    """
    model = MODELS["tiny" if tiny else shape]
    prompt, count = (16, 16) if tiny else (PROMPT, 256)
    prompts = torch.randint(0, model.vocab_size, (batch, prompt), generator=torch.Generator().manual_seed(0))
    engine, compiled = (Engine(model, ExecutionConfig(threads=4, compile=on), seed=0, precision="bf16") for on in (False, True))
    module = same_weights(engine, model, torch.bfloat16).to(engine.device)

    def ours(engine: Engine) -> Any:
        return generate(engine, prompts.tolist(), max_new_tokens=count, temperature=0.0, seed=0, batch=batch)

    def theirs() -> Any:
        ids = prompts.to(engine.device)
        return module.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, do_sample=False, use_cache=True)

    sides = {"modelyard": lambda: ours(engine), "compiled": lambda: ours(compiled), "transformers": theirs}
    rates: dict[str, float] = {}
    for name, run in sides.items():
        run()
        rates[name] = batch * count / statistics.median(each(run) for _ in range(1 if tiny else 3))
    return {"shape": shape, "batch": batch, "new_tokens": count, "tokens_per_s": rates, "peak_gib": peak_gib()}


def ppo_iterations(shape: str, tiny: bool) -> dict[str, Any]:
    """Seconds of sampling and of the update of one PPO-ptx iteration, and how far generation and training
    disagree.
    """
    model = MODELS["tiny" if tiny else shape]
    episodes, new, prompt = (8, 8, 8) if tiny else (128, 128, PROMPT)
    micro_batch = 4 if tiny else 16
    changes = {"episodes": episodes, "minibatches": 2, "micro_batch": micro_batch, "max_new_tokens": new, "iterations": 4}
    config = ppo_config("bf16", **changes, ptx_rows=episodes // 2, ptx_coef=1.0, ema_decay=0.992)
    prompts = torch.randint(2, model.vocab_size, (episodes * 2, prompt), generator=torch.Generator().manual_seed(0)).tolist()
    training = training_of(config, model, ExecutionConfig(threads=4), prompts)
    sampled, updated, drift = [], [], 0.0
    for iteration in range(config.iterations):
        drawn: list[Rollout] = []
        sampled.append(each(functools.partial(_sample_into, drawn, config, training, iteration)))
        drift = max(drift, drawn[0].drift)
        updated.append(each(functools.partial(update, config, training, drawn[0], iteration, config.kl_coef)))
    return {
        "shape": shape,
        "episodes": episodes,
        "new_tokens": new,
        "sample_s": statistics.median(sampled[1:]),
        "update_s": statistics.median(updated[1:]),
        "drift_nats": drift,
        "peak_gib": peak_gib(),
    }


def _sample_into(drawn: list[Rollout], config: PPOConfig, training: Training, iteration: int) -> None:
    drawn.append(ppo.sampled(config, training, iteration))
