"""Generation and scoring beside transformers', and iterations of PPO with their parts, on one GPU."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable
from typing import Any

import torch

from bench.generate import same_weights
from bench.gpu.timing import each, peak_gib
from bench.policies import ppo_config, training_of
from bench.shapes import SMOLLM2, llama
from modelyard.execution import ExecutionConfig
from modelyard.model.inference.generate import generate
from modelyard.model.inference.queries import Query
from modelyard.model.inference.score import Scorer
from modelyard.model.network.model_config import ModelConfig
from modelyard.model.network.variant import Variant
from modelyard.model.training.engine import Engine
from modelyard.posttrain.policy import loop as ppo
from modelyard.posttrain.policy.config import PPOConfig
from modelyard.posttrain.policy.prepare import Training
from modelyard.posttrain.policy.rollout import Rollout
from modelyard.posttrain.policy.update import update

MODELS: dict[str, ModelConfig] = {
    "smollm2": SMOLLM2.model_copy(update={"seq_len": 1024}),
    "350M": llama(24, 1024, 16, 16, 2816, 50_304, 2048),
    "qwen3": llama(28, 1024, 16, 8, 3072, 151_936, 1024, 1e6).model_copy(update={"head_dim": 128, "variant": Variant(qk_norm=True)}),
}
"""Of which ``qwen3`` is Qwen3-0.6B's, a variant: norms of queries and keys, heads wider than their share of the hidden states."""
TINY = llama(2, 64, 4, 2, 176, 512, 64)
PROMPT = 64
QUESTIONS = {"preface": (600, 80, 3), "own": (0, 300, 30)}
"""Tokens that all questions of a kind begin with, of a question, and of each of its four answers: a benchmark with few-shot examples, one without."""
TINY_QUESTIONS = {"preface": (16, 8, 2), "own": (0, 8, 2)}
PEER_ROWS = 64
"""Rows of a batch of the peer, each a question with one answer."""


def model_of(shape: str, tiny: bool) -> ModelConfig:
    """The model of this name, or a tiny one whose layers are of the same kind."""
    whole = MODELS[shape]
    if not tiny:
        return whole
    wide = None if whole.head_dim is None else 32
    return TINY.model_copy(update={"head_dim": wide, "variant": whole.variant})


def generation(shape: str, batch: int, tiny: bool) -> dict[str, Any]:
    """New tokens/s in bf16, greedy, equal prompts; ours also returns log-probabilities. ``compiled``:
    ``execution.compile``.
    """
    model = model_of(shape, tiny)
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


def scoring(shape: str, kind: str, tiny: bool) -> dict[str, Any]:
    """Questions/s whose four answers get log-probabilities: ours with products in fp32 and in bf16, and transformers on a row for every answer,
    in both dtypes; with the largest difference of an answer's log-probability from transformers' in fp32.
    """
    model, (preface, question, answer) = model_of(shape, tiny), (TINY_QUESTIONS if tiny else QUESTIONS)[kind]
    drawn = torch.Generator().manual_seed(0)

    def tokens(count: int) -> list[int]:
        return torch.randint(0, model.vocab_size, (count,), generator=drawn).tolist()

    first = tokens(preface)
    queries = [Query([first + tokens(question)] * 4, [tokens(answer) for _ in range(4)]) for _ in range(8 if tiny else 128)]
    engine = Engine(model, ExecutionConfig(threads=4), seed=0, precision="fp32")
    rates: dict[str, float] = {}
    found: dict[str, list[float]] = {}

    def timed(name: str, run: Callable[[], list[float]]) -> None:
        found[name] = run()
        rates[name] = len(queries) / statistics.median(each(run) for _ in range(1 if tiny else 2))

    for gemm in ("fp32", "bf16"):
        timed(f"modelyard {gemm}", functools.partial(_scored_by_us, Scorer(engine, gemm), queries))
    for dtype in (torch.float32, torch.bfloat16):
        module = same_weights(engine, model, dtype).to(engine.device)
        timed(f"transformers {str(dtype)[6:]}", functools.partial(_scored_by, module, queries, answer))
    exact = found["transformers float32"]
    gaps = {name: max(abs(a - b) for a, b in zip(values, exact, strict=True)) for name, values in found.items()}
    return {"shape": shape, "kind": kind, "questions": len(queries), "questions_per_s": rates, "largest_gap": gaps, "peak_gib": peak_gib()}


def _scored_by_us(scorer: Scorer, queries: list[Query]) -> list[float]:
    return [sum(one.logprobs) for answers in scorer.score(queries) for one in answers]


def _scored_by(module: Any, queries: list[Query], answer: int) -> list[float]:
    """log p of every answer by a model of transformers: a row each, all of one length."""
    rows = [[*prefix, *new] for query in queries for prefix, new in zip(query.prefixes, query.continuations, strict=True)]
    found: list[float] = []
    with torch.inference_mode():
        for start in range(0, len(rows), PEER_ROWS):
            ids = torch.tensor(rows[start : start + PEER_ROWS], device=module.device)
            logits = module(input_ids=ids[:, :-1], logits_to_keep=answer).logits.float()
            found += logits.log_softmax(-1).gather(-1, ids[:, -answer:, None]).sum((1, 2)).tolist()
    return found


def ppo_iterations(shape: str, tiny: bool) -> dict[str, Any]:
    """Seconds of sampling and of the update of one PPO-ptx iteration, and how far generation and training
    disagree.
    """
    model = model_of(shape, tiny)
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
