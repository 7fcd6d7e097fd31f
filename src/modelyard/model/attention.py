"""Core attention on ``torch.nn.functional.scaled_dot_product_attention``, given to megatron-core through the layer spec.

megatron-core's own CPU path materialises the scores. This one does not, and takes grouped keys and values as they are. It knows two masks only:
causal, and none for a decoding step whose single query sees the whole cache. Packed sequences are left out.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


class SdpaAttention(torch.nn.Module):
    """Scaled dot-product attention over this tensor-parallel rank's heads."""

    def __init__(self, config: Any, layer_number: int, attn_mask_type: Any, attention_type: str, **unused: Any) -> None:
        super().__init__()
        self.config = config
        self.attn_mask_type = attn_mask_type
        self.softmax_scale = unused.get("softmax_scale")
        self.dropout = config.attention_dropout

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        attn_mask_type: Any = None,
        attention_bias: Tensor | None = None,
        packed_seq_params: Any = None,
    ) -> Tensor:
        """Query [sq, b, heads, d], key and value [sk, b, groups, d] -> context [sq, b, heads * d]."""
        assert packed_seq_params is None, "packed sequences are not supported"
        assert attention_bias is None, "attention bias is not supported"
        length, batch, heads, width = query.shape
        causal = length == key.shape[0]
        assert causal or length == 1, f"{length} queries against {key.shape[0]} keys: only prefill or one-token steps"
        context = F.scaled_dot_product_attention(
            query.permute(1, 2, 0, 3),
            key.permute(1, 2, 0, 3),
            value.permute(1, 2, 0, 3),
            is_causal=causal and length > 1,
            dropout_p=self.dropout if self.training else 0.0,
            scale=self.softmax_scale,
            enable_gqa=heads != key.shape[2],
        )
        return context.permute(2, 0, 1, 3).reshape(length, batch, heads * width)
