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
from typing import Any

import torch

from modelyard.execution import ExecutionConfig
from modelyard.model.network import experts, lora, rope, te_layers
from modelyard.model.network.attention import SdpaAttention
from modelyard.model.network.lora import LoRAConfig
from modelyard.model.network.model_config import Head, ModelConfig, Precision
from modelyard.model.network.modules import Norm, ScalarHead
from modelyard.model.network.parallel import Layout
from modelyard.model.network.variant import Variant

GATES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "silu": torch.nn.functional.silu,
    "gelu_tanh": functools.partial(torch.nn.functional.gelu, approximate="tanh"),
}


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
