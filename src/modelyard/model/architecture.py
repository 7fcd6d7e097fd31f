"""The model: megatron-core's ``GPTModel``, Llama style or GPT-2/3 style, with a language-model or a scalar head.

Llama style: RMSNorm, SwiGLU, rotary positions, grouped queries, no biases (Touvron et al. 2023). GPT style: LayerNorm, GELU, learned
positions, biases (Radford et al. 2019, Brown et al. 2020). Knows nothing of training; parallelism is megatron-core's.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import model_validator
from torch import Tensor

from modelyard.config import Config
from modelyard.model.attention import SdpaAttention
from modelyard.model.parallel import Layout

Head = Literal["lm", "scalar"]
Precision = Literal["fp32", "bf16"]


class ModelConfig(Config):
    """Shape and style of a transformer."""

    style: Literal["llama", "gpt"]
    """``llama`` (RMSNorm, SwiGLU, RoPE) or ``gpt`` (LayerNorm, GELU, learned positions)."""
    layers: int
    """Transformer blocks."""
    hidden: int
    """Width of the residual stream."""
    heads: int
    """Query heads."""
    kv_heads: int
    """Key and value heads (grouped-query attention when fewer than ``heads``)."""
    ffn_hidden: int
    """Width inside the feed-forward block."""
    seq_len: int
    """Longest sequence, in tokens."""
    vocab_size: int
    """Rows of the embedding."""
    tie_embeddings: bool
    """Whether the output layer is the embedding."""
    rope_base: float
    """Base of the rotary frequencies (llama style)."""
    norm_eps: float
    """Epsilon of the norms."""
    init_std: float
    """Standard deviation of initial weights; output projections get ``init_std / sqrt(2 layers)``."""

    @model_validator(mode="after")
    def _shape(self) -> ModelConfig:
        for key in ("layers", "hidden", "heads", "kv_heads", "ffn_hidden", "seq_len", "vocab_size"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key} must be at least 1, got {getattr(self, key)}")
        if self.hidden % self.heads:
            raise ValueError(f"hidden {self.hidden} is not divisible by heads {self.heads}")
        if self.heads % self.kv_heads:
            raise ValueError(f"heads {self.heads} is not divisible by kv_heads {self.kv_heads}")
        return self

    def check_layout(self, tensor_parallel: int, pipeline_parallel: int) -> None:
        """Raise ValueError when this model cannot be split so."""
        for key in ("heads", "kv_heads", "ffn_hidden", "vocab_size"):
            if getattr(self, key) % tensor_parallel:
                raise ValueError(f"model.{key} {getattr(self, key)} is not divisible by execution.tensor_parallel {tensor_parallel}")
        if self.layers % pipeline_parallel:
            raise ValueError(f"model.layers {self.layers} is not divisible by execution.pipeline_parallel {pipeline_parallel}")

    def parameters(self) -> int:
        """Trainable parameters of the language model."""
        head = self.hidden // self.heads
        attention = self.hidden * head * (2 * self.heads + 2 * self.kv_heads)
        ffn = (3 if self.style == "llama" else 2) * self.hidden * self.ffn_hidden
        norms = 2 * self.hidden
        extra = 0
        if self.style == "gpt":
            biases = head * (self.heads + 2 * self.kv_heads) + self.hidden + self.ffn_hidden + self.hidden
            extra = self.layers * (biases + 2 * self.hidden) + self.hidden + self.seq_len * self.hidden
        embeddings = self.vocab_size * self.hidden * (1 if self.tie_embeddings else 2)
        return embeddings + self.layers * (attention + ffn + norms) + self.hidden + extra

    def flops_per_token(self) -> float:
        """Training FLOPs of one token, forward and backward: 6 x (parameters that multiply) + 12 x layers x hidden x seq_len (PaLM, appendix B)."""
        embedding = self.vocab_size * self.hidden
        matmul = self.parameters() - embedding * (0 if self.tie_embeddings else 1)
        return 6.0 * matmul + 12.0 * self.layers * self.hidden * self.seq_len


class ScalarHead(torch.nn.Module):
    """One number per position in place of the unembedding (InstructGPT, section 3.5). Replicated over tensor-parallel ranks."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1, config.hidden_size, dtype=config.params_dtype))
        self.bias = torch.nn.Parameter(torch.zeros(1, dtype=config.params_dtype))

    def forward(self, hidden: Tensor, weight: Tensor | None = None, runtime_gather_output: bool | None = None) -> tuple[Tensor, None]:
        """Hidden [s, b, h] -> values [s, b, 1] in fp32, with megatron-core's output-layer signature."""
        return torch.nn.functional.linear(hidden.float(), self.weight.float(), self.bias.float()), None


def transformer_config(model: ModelConfig, layout: Layout, precision: Precision) -> Any:
    """megatron-core's ``TransformerConfig`` of this model."""
    from megatron.core.transformer import TransformerConfig

    from modelyard.model import language_model

    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    llama = model.style == "llama"
    cuda = torch.cuda.is_available()
    return TransformerConfig(
        num_layers=model.layers,
        hidden_size=model.hidden,
        num_attention_heads=model.heads,
        num_query_groups=model.kv_heads,
        ffn_hidden_size=model.ffn_hidden,
        normalization="RMSNorm" if llama else "LayerNorm",
        layernorm_epsilon=model.norm_eps,
        gated_linear_unit=llama,
        activation_func=torch.nn.functional.silu if llama else torch.nn.functional.gelu,
        add_bias_linear=not llama,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        bf16=precision == "bf16",
        params_dtype=dtype,
        pipeline_dtype=dtype,
        tensor_model_parallel_size=layout.tp,
        pipeline_model_parallel_size=layout.pp,
        sequence_parallel=False,
        perform_initialization=True,  # also marks which dimension of a weight is split
        use_cpu_initialization=not cuda,
        gradient_accumulation_fusion=False,
        bias_activation_fusion=cuda
        and llama,  # compiled by torch on first use; megatron-core's fused GELU is another function than torch's
        bias_dropout_fusion=cuda,
        masked_softmax_fusion=False,
        apply_rope_fusion=llama and language_model.use_fused_rotary(),
        persist_layer_norm=False,
        calculate_per_token_loss=True,
    )


def layer_spec(model: ModelConfig) -> Any:
    """megatron-core's local layer spec with our attention in it."""
    from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec

    spec = get_gpt_layer_local_spec(normalization="RMSNorm" if model.style == "llama" else "LayerNorm")
    spec.submodules.self_attention.submodules.core_attention = SdpaAttention
    return spec


def build(model: ModelConfig, layout: Layout, precision: Precision, head: Head) -> Any:
    """This rank's part of the model, weights not yet initialised (see :mod:`modelyard.model.initialization`)."""
    from megatron.core.transformer.module import Float16Module

    from modelyard.model.language_model import LanguageModel

    model.check_layout(layout.tp, layout.pp)
    config = transformer_config(model, layout, precision)
    module = LanguageModel(
        real_vocab=model.vocab_size,
        config=config,
        transformer_layer_spec=layer_spec(model),
        vocab_size=model.vocab_size,
        max_sequence_length=model.seq_len,
        pre_process=layout.is_first_stage,
        post_process=layout.is_last_stage,
        share_embeddings_and_output_weights=model.tie_embeddings and head == "lm",
        position_embedding_type="rope" if model.style == "llama" else "learned_absolute",
        rotary_base=int(model.rope_base),
    )
    if head == "scalar" and layout.is_last_stage:
        module.output_layer = ScalarHead(config)
    if torch.cuda.is_available():
        module.cuda(torch.cuda.current_device())
    return Float16Module(config, module) if precision == "bf16" else module
