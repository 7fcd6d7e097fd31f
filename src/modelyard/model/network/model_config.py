"""Shape and style of a model: what it is made of, how it can be split, how many parameters and FLOPs it has."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import model_validator

from modelyard.config import Config
from modelyard.execution import ExecutionConfig
from modelyard.model.network import te_layers
from modelyard.model.network.experts import ALIGNED, MoEConfig
from modelyard.model.network.rope import DynamicScaling, RopeScaling
from modelyard.model.network.variant import LLAMA, Variant
from modelyard.model.network.vision import VisionConfig

Head = Literal["lm", "scalar"]
Precision = Literal["fp32", "bf16"]
Family = Literal["llama", "mistral", "qwen2", "qwen3", "gemma", "smollm3"]
"""Architectures of Hugging Face that a model can be."""


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
    head_dim: int | None = None
    """Width of a head; ``hidden / heads`` where absent."""
    rope_scaling: RopeScaling | None = None
    """How rotary positions are stretched; absent: not at all."""
    variant: Variant = LLAMA
    """Parts in which the layers differ from Llama's."""
    family: Family | None = None
    """Architecture of Hugging Face that the model is exported as; absent: the first that has its parts."""
    moe: MoEConfig | None = None
    """Mixture of experts; absent: dense."""
    vision: VisionConfig | None = None
    """Patch encoder and projector; absent: it reads text only."""

    @model_validator(mode="after")
    def _shape(self) -> ModelConfig:
        for key in ("layers", "hidden", "heads", "kv_heads", "ffn_hidden", "seq_len", "vocab_size"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key} must be at least 1, got {getattr(self, key)}")
        for key in ("rope_base", "norm_eps", "init_std"):
            if not 0 < getattr(self, key) < math.inf:
                raise ValueError(f"{key} must be positive and finite, got {getattr(self, key)}")
        if self.head_dim is not None and self.head_dim < 1:
            raise ValueError(f"head_dim must be at least 1, got {self.head_dim}")
        if self.head_dim is None and self.hidden % self.heads:
            raise ValueError(f"hidden {self.hidden} is not divisible by heads {self.heads}")
        if self.heads % self.kv_heads:
            raise ValueError(f"heads {self.heads} is not divisible by kv_heads {self.kv_heads}")
        self.variant.check(self.layers)
        if self.variant != LLAMA and (self.style != "llama" or self.moe is not None):
            raise ValueError("variant: only of a llama-style model without experts")
        if self.style == "llama" and self.head_width % 2:
            raise ValueError(f"heads of odd width {self.head_width} cannot be rotated")
        if self.moe and (self.hidden % ALIGNED or self.ffn_hidden % ALIGNED):
            raise ValueError(f"hidden {self.hidden} and ffn_hidden {self.ffn_hidden} of experts (moe) must be divisible by {ALIGNED}")
        if self.seq_len > self.released_len:
            raise ValueError(f"seq_len {self.seq_len} is beyond the {self.released_len} up to which dynamic rope_scaling changes nothing")
        if self.vision is not None and self.style != "llama":
            raise ValueError(f"vision: only llama-style models are shown images, this one is of style {self.style!r}")
        return self

    @property
    def head_width(self) -> int:
        """Width of a query, key or value head."""
        return self.head_dim or self.hidden // self.heads

    @property
    def released_len(self) -> int:
        """What an export says is the longest sequence: ``seq_len``, but of a dynamic scaling the length from which on it scales."""
        scaling = self.rope_scaling
        if isinstance(scaling, DynamicScaling) and scaling.original_max_position_embeddings:
            return scaling.original_max_position_embeddings
        return self.seq_len

    @property
    def has_biases(self) -> bool:
        """Whether linear layers have biases."""
        return self.style == "gpt" and self.moe is None

    @property
    def is_plain(self) -> bool:
        """Whether it is a dense Llama without variant parts, which the compiled step of a CPU is written for."""
        return self.style == "llama" and self.moe is None and self.variant == LLAMA

    def check_adapters(self) -> None:
        """Raise ValueError when adapters have no place in this model, which is Hugging Face's layout of a dense Llama."""
        if self.style != "llama" or self.moe is not None:
            what = f"of style {self.style!r}" if self.style != "llama" else "with experts (model.moe)"
            raise ValueError(f"lora: only dense llama-style models take adapters, this one is {what}")

    def check_execution(self, execution: ExecutionConfig) -> None:
        """Raise ValueError when this model cannot be split, or have layers, as ``execution`` says."""
        te_layers.check_model(self, execution)
        self.check_layout(
            execution.tensor_parallel,
            execution.pipeline_parallel,
            execution.expert_parallel,
            execution.virtual_pipeline,
            execution.context_parallel,
        )

    def check_layout(
        self, tensor_parallel: int, pipeline_parallel: int, expert_parallel: int = 1, virtual_pipeline: int = 1, context_parallel: int = 1
    ) -> None:
        """Raise ValueError when this model cannot be split so."""
        for key in ("heads", "ffn_hidden"):
            if getattr(self, key) % tensor_parallel:
                raise ValueError(f"model.{key} {getattr(self, key)} is not divisible by execution.tensor_parallel {tensor_parallel}")
        if self.kv_heads % tensor_parallel and tensor_parallel % self.kv_heads:
            raise ValueError(
                f"model.kv_heads {self.kv_heads} is neither a multiple nor a divisor of execution.tensor_parallel {tensor_parallel}"
            )
        if (rows := self.head_width * (self.heads + 2 * self.kv_heads)) % tensor_parallel:
            raise ValueError(
                f"the {rows} rows of a layer's queries, keys and values (heads + 2 x kv_heads, each of head_dim) are not divisible by "
                f"execution.tensor_parallel {tensor_parallel}"
            )
        if self.layers % pipeline_parallel:
            raise ValueError(f"model.layers {self.layers} is not divisible by execution.pipeline_parallel {pipeline_parallel}")
        if self.layers % (pipeline_parallel * virtual_pipeline):
            raise ValueError(
                f"model.layers {self.layers} is not divisible by execution.pipeline_parallel {pipeline_parallel} x virtual_pipeline "
                f"{virtual_pipeline}"
            )
        if self.vision:
            self.vision.check_layout(self.hidden, tensor_parallel)
        if self.vision and context_parallel > 1:
            raise ValueError(
                f"execution.context_parallel {context_parallel} is for rows of text; this model is shown images (model.vision)"
            )
        if self.moe is None and expert_parallel > 1:
            raise ValueError(f"execution.expert_parallel {expert_parallel} needs a model with experts (model.moe)")
        if self.moe and self.moe.experts % expert_parallel:
            raise ValueError(f"model.moe.experts {self.moe.experts} is not divisible by execution.expert_parallel {expert_parallel}")

    def kv_heads_on(self, tensor_ranks: int) -> int:
        """Key and value heads that each of so many tensor-parallel ranks attends with: at least one, which several ranks may share."""
        return max(1, self.kv_heads // tensor_ranks)

    def padded_vocab(self, tensor_parallel: int) -> int:
        """Rows of the embedding in memory: ``vocab_size`` up to the next multiple of ``tensor_parallel``. Added rows are never predicted."""
        return -(-self.vocab_size // tensor_parallel) * tensor_parallel

    def parameters(self, *, active: bool = False) -> int:
        """Trainable parameters, those of a patch encoder among them; ``active``: those that one token of text meets (its ``top_k`` experts)."""
        qkv, ffn = self.head_width * (self.heads + 2 * self.kv_heads), (3 if self.style == "llama" else 2) * self.hidden * self.ffn_hidden
        layer = self.hidden * qkv + self.head_width * self.heads * self.hidden + self._norm
        if self.moe:
            layer += self.moe.experts * self.hidden + (self.moe.top_k if active else self.moe.experts) * ffn + self._norm
        else:
            layer += ffn + self._norm
        if self.has_biases:
            layer += qkv + self.hidden + self.ffn_hidden + self.hidden
        layer += qkv * self.variant.qkv_bias + 2 * self.head_width * self.variant.qk_norm
        positions = self.seq_len * self.hidden if self.style == "gpt" else 0
        embeddings = self.vocab_size * self.hidden * (1 if self.tie_embeddings else 2)
        vision = self.vision.parameters(self.hidden) if self.vision and not active else 0
        return embeddings + positions + self.layers * layer + self._norm + vision

    @property
    def _norm(self) -> int:
        return self.hidden * (1 if self.style == "llama" else 2)

    def flops_per_token(self) -> float:
        """Training FLOPs of one token of text, forward and backward (PaLM, appendix B).

        6 x (parameters that multiply) + 12 x layers x width of all heads x seq_len; neither windows nor masks between documents are taken off.
        """
        embedding = self.vocab_size * self.hidden
        matmul = self.parameters(active=True) - embedding * (0 if self.tie_embeddings else 1)
        return 6.0 * matmul + 12.0 * self.layers * self.heads * self.head_width * self.seq_len
