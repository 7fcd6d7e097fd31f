"""Batched sampling with a key-value cache and log-probabilities, at any TP/PP/DP layout.

Prompts of different lengths share one cache without padding masks: after a prefill of the shortest prompt's length, longer prompts are fed token
by token in place of samples, so every position is computed exactly as in training. Sampling is inverse-CDF on uniforms drawn from one seeded CPU
generator for the whole batch, so the same seed gives the same text however the work is split. Top-p, beams and stop strings are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from modelyard import progress
from modelyard.model import parallel
from modelyard.model.engine import Engine


class Generation(NamedTuple):
    """New tokens of each prompt (the stop token included when it was sampled) and their log-probabilities at temperature 1."""

    tokens: list[list[int]]
    logprobs: list[list[float]]


def generate(
    engine: Engine,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    temperature: float,
    seed: int,
    stop_id: int | None,
    batch: int = 256,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Generation:
    """Sample from a language model; greedy at temperature 0. The same result on every rank.

    Raises:
        ValueError: an empty prompt, or prompt and new tokens longer than the model's ``seq_len``.
    """
    longest = max((len(p) for p in prompts), default=0)
    if any(len(p) == 0 for p in prompts):
        raise ValueError("every prompt needs at least one token")
    if longest + max_new_tokens > engine.model.seq_len:
        raise ValueError(f"{longest} prompt tokens + {max_new_tokens} new ones exceed seq_len {engine.model.seq_len}")
    uniforms = torch.rand(len(prompts), max_new_tokens, generator=torch.Generator().manual_seed(seed))
    tokens: list[list[int]] = []
    logprobs: list[list[float]] = []
    for start in range(0, len(prompts), batch):
        part = prompts[start : start + batch]
        new, logp = _generate_batch(engine, part, max_new_tokens, temperature, uniforms[start : start + batch], stop_id)
        for row, row_logp in zip(new.tolist(), logp.tolist(), strict=True):
            length = row.index(stop_id) + 1 if stop_id is not None and stop_id in row else max_new_tokens
            tokens.append(row[:length])
            logprobs.append(row_logp[:length])
        report(len(tokens), len(prompts))
    return Generation(tokens, logprobs)


def _generate_batch(
    engine: Engine, prompts: Sequence[Sequence[int]], max_new: int, temperature: float, uniforms: Tensor, stop_id: int | None
) -> tuple[Tensor, Tensor]:
    """New tokens and log-probabilities, each [B, max_new]; after a stop token anything may stand."""
    from megatron.core.inference.contexts import StaticInferenceContext

    dp, device = engine.layout.dp, parallel.device()
    fill = -len(prompts) % dp
    rows = [*prompts, *[prompts[-1]] * fill]
    share = len(rows) // dp
    mine = slice(engine.layout.dp_rank * share, (engine.layout.dp_rank + 1) * share)
    lengths = torch.tensor([len(p) for p in rows[mine]], device=device)
    shortest, end = min(len(p) for p in rows), max(len(p) for p in rows) + max_new
    sequence = torch.zeros(share, end, dtype=torch.long, device=device)
    for i, prompt in enumerate(rows[mine]):
        sequence[i, : len(prompt)] = torch.tensor(prompt, device=device)
    uniform = torch.cat([uniforms, uniforms[-1:].expand(fill, -1)])[mine].to(device)
    logp = torch.zeros(share, end, device=device)
    done = torch.zeros(share, dtype=torch.bool, device=device)
    context = StaticInferenceContext(share, end)
    context.materialize_only_last_token_logits = True
    engine.chunk.eval()
    position = 0
    with torch.inference_mode():
        for step in range(shortest, end):
            progress.beat()
            logits = _next_logits(engine, sequence[:, position:step], position, context)
            position = step
            drawn = step - lengths
            sampling = (drawn >= 0) & (drawn < max_new)
            chosen, chosen_logp = _sample(logits, temperature, uniform.gather(1, drawn.clamp(0, max_new - 1)[:, None])[:, 0])
            sequence[:, step] = torch.where(sampling, chosen, sequence[:, step])
            logp[:, step] = chosen_logp
            if stop_id is not None:
                done |= sampling & (chosen == stop_id)
            if bool((done | (drawn >= max_new - 1)).all()) and dp == 1:
                break
    columns = lengths[:, None] + torch.arange(max_new, device=device)
    gathered = [parallel.gather_data_parallel(x.gather(1, columns)) for x in (sequence, logp)]
    return gathered[0][: len(prompts)], gathered[1][: len(prompts)]


def _next_logits(engine: Engine, tokens: Tensor, position: int, context: Any) -> Tensor:
    """Feed tokens [b, n] at ``position`` through every stage; logits of the token after them [b, V], fp32, on every rank."""
    from megatron.core.pipeline_parallel import get_forward_backward_func

    context.sequence_len_offset = position
    positions = torch.arange(position, position + tokens.shape[1], device=tokens.device).expand_as(tokens)

    def forward(_: Any, chunk: Any) -> Any:
        return chunk(tokens, positions, None, inference_context=context, runtime_gather_output=True), lambda x, non_loss_data: x

    if engine.layout.pp == 1:
        out = forward(None, engine.chunk)[0]
    else:
        collected = get_forward_backward_func()(
            forward_step_func=forward,
            data_iterator=iter([None]),
            model=[engine.chunk],
            num_microbatches=1,
            seq_length=tokens.shape[1],
            micro_batch_size=tokens.shape[0],
            forward_only=True,
            collect_non_loss_data=True,
        )
        out = collected[0] if engine.layout.is_last_stage else None
    logits = out[:, -1].float() if out is not None else None
    return parallel.from_last_stage(logits, (tokens.shape[0], engine.model.vocab_size), torch.float32)


def _sample(logits: Tensor, temperature: float, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens [b] and their log-probabilities at temperature 1 from logits [b, V] and uniforms [b]."""
    logprobs = torch.log_softmax(logits, -1)
    if temperature == 0:
        chosen = logits.argmax(-1)
    else:
        cumulative = torch.softmax(logits / temperature, -1).cumsum(-1)
        chosen = torch.searchsorted(cumulative, (uniform * cumulative[:, -1])[:, None]).squeeze(-1).clamp(max=logits.shape[-1] - 1)
    return chosen, logprobs.gather(1, chosen[:, None]).squeeze(1)
