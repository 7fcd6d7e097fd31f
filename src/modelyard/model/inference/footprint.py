"""Memory that decoding takes for a moment, beside weights and caches: bounds, that of a prompt held against what processes took (docs/decisions.md).

Attention is counted as computed by a kernel that holds no scores. Left out: the tower that looks at images.
"""

from __future__ import annotations

from collections.abc import Sequence

from modelyard.model.inference.block import Block
from modelyard.model.network.model_config import ModelConfig


def of_prompt(model: ModelConfig, blocks: Sequence[Block], size: int, tokens: int) -> int:
    """Bytes that reading a prompt takes: its keys and values, and what one layer makes of it; ``size``: of a number in a product."""
    kept = sum(2 * block.groups * block.width for block in blocks)
    heads = max(block.groups * (block.ratio + 2) * block.width for block in blocks)
    inner = model.ffn_hidden * (model.moe.top_k if model.moe else 1)
    of_token = size * (kept + max(6 * heads, 5 * inner)) + 16 * model.hidden  # norms are computed in fp32
    seen = 5 * tokens if any(block.window and block.window < tokens for block in blocks) else 0  # a mask, and the same as numbers
    return tokens * (of_token + seen)


def of_step(model: ModelConfig, size: int, rows: int, places: int) -> int:
    """Bytes that a token for each of ``rows`` takes: the scores of one layer, and the logits."""
    return rows * (3 * size * model.heads * places + 16 * model.vocab_size)
