"""Shapes that the speed benchmarks share, and Hugging Face's model of the same shape as the peer."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

import torch

from modelyard.model.hf.families import hf_config
from modelyard.model.network.model_config import ModelConfig


class PrecisionName(StrEnum):
    """A precision as a word of the command line."""

    FP32 = "fp32"
    BF16 = "bf16"


def llama(
    layers: int, hidden: int, heads: int, kv_heads: int, ffn: int, vocab: int, seq_len: int, rope_base: float = 10_000.0
) -> ModelConfig:
    """A Llama with tied embeddings."""
    return ModelConfig(
        style="llama",
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        ffn_hidden=ffn,
        seq_len=seq_len,
        vocab_size=vocab,
        tie_embeddings=True,
        rope_base=rope_base,
        norm_eps=1e-5,
        init_std=0.02,
    )


TINY = llama(4, 128, 4, 2, 352, 2048, 128)
"""1.00M parameters; the default line's shape but for its embeddings, which are not tied there (1.26M)."""
SMALL = llama(6, 256, 8, 4, 688, 8192, 256)
"""6.45M parameters."""
SMOLLM2 = llama(30, 576, 9, 3, 1536, 49_152, 256, 100_000.0)
"""SmolLM2-135M's shape at a shorter context."""


def peer(model: ModelConfig, dtype: torch.dtype = torch.float32) -> Any:
    """The model of transformers with the same function, SDPA attention and random weights."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_config(hf_config(model, dtype, attn_implementation="sdpa", use_cache=False))


def alternate(
    work: Mapping[str, Callable[[], object]], rounds: int, times: int = 1, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each piece of work done ``times`` times, once a round and in turn, so that a change of the machine's load meets all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, once in work.items():
            start = clock()
            for _ in range(times):
                once()
            seconds[name].append(clock() - start)
    return seconds


def ratio(seconds: Mapping[str, list[float]], ours: str, theirs: str) -> float:
    """Median over rounds of how many times faster ``ours`` was than ``theirs`` in the same round."""
    return statistics.median(b / a for a, b in zip(seconds[ours], seconds[theirs], strict=True))
