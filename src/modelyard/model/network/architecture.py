"""The model: megatron-core's ``GPTModel``, Llama style or GPT-2/3 style, with a language-model or a scalar head.

Llama style: RMSNorm, SwiGLU, rotary positions, grouped queries, no biases (Touvron et al. 2023), or a variant of it
(:mod:`modelyard.model.network.variant`). GPT style: LayerNorm, GELU, learned positions, biases (Radford et al. 2019,
Brown et al. 2020). Either may have a mixture of experts in place of every feed-forward block (Fedus et al. 2021; without
biases), and a Llama a patch encoder that shows it images (:mod:`modelyard.model.network.vision`). Knows nothing of training; parallelism is
megatron-core's. Left out: shared experts, experts in some layers only.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from pydantic import model_validator

from modelyard.config import Config
from modelyard.execution import ExecutionConfig
from modelyard.model.network import experts, lora, rope, te_layers
from modelyard.model.network.attention import SdpaAttention
from modelyard.model.network.experts import ALIGNED, MoEConfig
from modelyard.model.network.lora import LoRAConfig
from modelyard.model.network.modules import Norm, ScalarHead
from modelyard.model.network.parallel import Layout
from modelyard.model.network.rope import RopeScaling
from modelyard.model.network.variant import LLAMA, Variant
from modelyard.model.network.vision import VisionConfig

Head = Literal["lm", "scalar"]
Precision = Literal["fp32", "bf16"]
Family = Literal["llama", "mistral", "qwen2", "qwen3", "gemma", "smollm3"]
"""Architectures of Hugging Face that a model can be."""

GATES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "silu": torch.nn.functional.silu,
    "gelu_tanh": functools.partial(torch.nn.functional.gelu, approximate="tanh"),
}


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
        if self.vision is not None and self.style != "llama":
            raise ValueError(f"vision: only llama-style models are shown images, this one is of style {self.style!r}")
        return self

    @property
    def head_width(self) -> int:
        """Width of a query, key or value head."""
        return self.head_dim or self.hidden // self.heads

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
        for key in ("heads", "kv_heads", "ffn_hidden"):
            if getattr(self, key) % tensor_parallel:
                raise ValueError(f"model.{key} {getattr(self, key)} is not divisible by execution.tensor_parallel {tensor_parallel}")
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


def transformer_config(model: ModelConfig, execution: ExecutionConfig, precision: Precision, dropout: float = 0.0) -> Any:
    """megatron-core's ``TransformerConfig`` of this model; ``dropout``: share of each block's addition to the residual stream (and of the
    embeddings) that is dropped in training."""
    from megatron.core.transformer import TransformerConfig

    from modelyard.model.network import language_model

    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    llama, variant = model.style == "llama", model.variant
    cuda = torch.cuda.is_available()
    return TransformerConfig(
        num_layers=model.layers,
        hidden_size=model.hidden,
        num_attention_heads=model.heads,
        num_query_groups=model.kv_heads,
        kv_channels=model.head_width,
        ffn_hidden_size=model.ffn_hidden,
        normalization="RMSNorm" if llama else "LayerNorm",
        layernorm_epsilon=model.norm_eps,
        gated_linear_unit=llama,
        activation_func=GATES[variant.gate] if llama else torch.nn.functional.gelu,
        add_bias_linear=model.has_biases,
        **_variant(variant, model.layers),
        hidden_dropout=dropout,
        attention_dropout=0.0,
        bf16=precision == "bf16",
        params_dtype=dtype,
        pipeline_dtype=dtype,
        tensor_model_parallel_size=execution.tensor_parallel,
        pipeline_model_parallel_size=execution.pipeline_parallel,
        virtual_pipeline_model_parallel_size=execution.chunks,
        # the interleaved schedule of two ranks works only so: each is before and behind the other
        overlap_p2p_comm=execution.virtual_pipeline > 1,
        batch_p2p_comm=execution.virtual_pipeline == 1,
        context_parallel_size=execution.context_parallel,
        expert_model_parallel_size=execution.expert_parallel,
        # with experts megatron-core trains at no tensor parallelism but this
        sequence_parallel=(execution.sequence_parallel or model.moe is not None) and execution.tensor_parallel > 1,
        **_recomputation(execution),
        **(experts.settings(model.moe, model.ffn_hidden, execution) if model.moe else {}),
        perform_initialization=True,  # also marks which dimension of a weight is split
        use_cpu_initialization=not cuda,
        **te_layers.settings(execution),
        # compiled by torch on first use; megatron-core's fused GELU is another function than torch's
        bias_activation_fusion=cuda and llama and variant.gate == "silu",
        bias_dropout_fusion=cuda,
        masked_softmax_fusion=False,
        apply_rope_fusion=llama and language_model.use_fused_rotary(),
        persist_layer_norm=False,
        calculate_per_token_loss=True,
    )


def _variant(variant: Variant, layers: int) -> dict[str, Any]:
    """Megatron-core's names of a variant's parts; its window counts the tokens before the one that looks."""
    return {
        "add_qkv_bias": variant.qkv_bias,
        "qk_layernorm": variant.qk_norm,
        "layernorm_zero_centered_gamma": variant.zero_centred_norms,
        "window_size": (variant.window - 1, 0) if variant.window else None,
        "window_attn_skip_freq": [int(window is not None) for window in variant.windows(layers)],
        "no_rope_freq": [int(layer in variant.no_rope_layers) for layer in range(layers)] if variant.no_rope_layers else None,
    }


def _recomputation(execution: ExecutionConfig) -> dict[str, Any]:
    if execution.recompute == "full":
        return {"recompute_granularity": "full", "recompute_method": "uniform", "recompute_num_layers": 1}
    return {"recompute_granularity": "selective"} if execution.recompute == "selective" else {}


def block_spec(model: ModelConfig, config: Any, chunk: int | None) -> Any:
    """This pipeline stage's layers, or those of one of its chunks: megatron-core's local spec with our attention, norms and products in it, or
    Transformer Engine's with our attention."""
    from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
    from megatron.core.transformer.transformer_block import TransformerBlockSubmodules, get_num_layers_to_build

    from modelyard.model.network.grouped_experts import GroupedExperts
    from modelyard.model.network.language_model import ColumnParallel, RowParallel

    fused = config.transformer_impl == "transformer_engine"
    num_experts = model.moe.experts if model.moe else None
    spec = te_layers.layer_spec() if fused else get_gpt_layer_local_spec(num_experts=num_experts, normalization=config.normalization)
    attention, mlp = spec.submodules.self_attention.submodules, spec.submodules.mlp.submodules
    attention.core_attention = SdpaAttention
    if model.variant.qk_norm:
        attention.q_layernorm = attention.k_layernorm = Norm
    if not fused:
        attention.linear_qkv, attention.linear_proj = ColumnParallel, RowParallel
        spec.submodules.input_layernorm = spec.submodules.pre_mlp_layernorm = Norm
        if model.moe:
            mlp.experts = GroupedExperts
        else:
            mlp.linear_fc1, mlp.linear_fc2 = ColumnParallel, RowParallel
    return TransformerBlockSubmodules(layer_specs=[spec] * get_num_layers_to_build(config, chunk), layer_norm=Norm)


def build(
    model: ModelConfig,
    execution: ExecutionConfig,
    layout: Layout,
    precision: Precision,
    head: Head,
    dropout: float = 0.0,
    adapters: LoRAConfig | None = None,
    chunk: int = 0,
) -> Any:
    """This rank's part of the model, or ``chunk`` of several, weights not yet initialised (see :mod:`modelyard.model.network.initialization`)."""
    from megatron.core.transformer.module import Float16Module

    from modelyard.model.network.language_model import LanguageModel

    model.check_execution(execution)
    first, last = layout.is_first_stage and chunk == 0, layout.is_last_stage and chunk == layout.vp - 1
    stage = chunk if layout.vp > 1 else None
    config = transformer_config(model, execution, precision, dropout)
    llama = model.style == "llama"
    module = LanguageModel(
        real_vocab=model.vocab_size,
        vision=model.vision,
        embedding_scale=math.sqrt(model.hidden) if model.variant.scaled_embedding else None,
        frequencies=rope.frequencies(model.rope_base, model.head_width, model.rope_scaling) if llama else None,
        amplitude=rope.amplitude(model.rope_scaling),
        config=config,
        transformer_layer_spec=block_spec(model, config, stage),
        vocab_size=model.padded_vocab(layout.tp),
        max_sequence_length=model.seq_len,
        pre_process=first,
        post_process=last,
        share_embeddings_and_output_weights=model.tie_embeddings and head == "lm",
        position_embedding_type="rope" if llama else "learned_absolute",
        vp_stage=stage,
    )
    experts.keep_no_log(module)
    if head == "scalar" and last:
        module.output_layer = ScalarHead(config)
    if adapters is not None:
        model.check_adapters()
        lora.adapt(module.decoder.layers, adapters, layout, model.head_width)
    if torch.cuda.is_available():
        module.cuda(torch.cuda.current_device())
    return Float16Module(config, module) if precision == "bf16" else module
