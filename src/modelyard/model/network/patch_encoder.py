"""Images among a language model's embeddings: a patch encoder on megatron-core's ``TransformerBlock``, and LLaVA's projector.

SigLIP's vision tower (Zhai et al. 2023) without the norm and the pooling behind its last block, then two layers with a GELU between them (Liu et al.
2023, "Improved baselines with visual instruction tuning", section 3.2). Both are cut by tensor parallelism as the language model is and stand on its
first pipeline stage. megatron-core's own ``CLIPViTModel`` wants CUDA. Left out: sequence parallelism inside the encoder, whose sequences are short.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from megatron.core.tensor_parallel import copy_to_tensor_model_parallel_region
from megatron.core.transformer import TransformerConfig
from megatron.core.transformer.enums import AttnMaskType
from megatron.core.transformer.module import MegatronModule
from megatron.core.transformer.transformer_block import TransformerBlock, TransformerBlockSubmodules
from torch import Tensor

from modelyard.model.network.attention import SdpaAttention
from modelyard.model.network.language_model import ColumnParallel, RowParallel
from modelyard.model.network.modules import Norm
from modelyard.model.network.tiles import Tiles
from modelyard.model.network.vision import NEWLINE, TEXT, VisionConfig

GELU = functools.partial(torch.nn.functional.gelu, approximate="tanh")
"""SigLIP's."""


class PatchEncoder(MegatronModule):
    """Tiles to embeddings of a language model's width, and into their places."""

    def __init__(self, vision: VisionConfig, language: TransformerConfig) -> None:
        """``language``: megatron-core's config of the language model, whose precision and tensor parallelism it has."""
        config = _config(vision, language)
        super().__init__(config=config)
        self.vision = vision
        like = {"dtype": config.params_dtype, "device": None if config.use_cpu_initialization else torch.cuda.current_device()}
        self.patches = torch.nn.Linear(3 * vision.patch**2, vision.hidden, **like)
        self.positions = torch.nn.Parameter(torch.zeros(vision.patches, vision.hidden, **like))
        self.block = TransformerBlock(config, _layers(vision, config), post_layer_norm=False)
        self.projector = Projector(vision.hidden, language.hidden_size, config)
        self.newline = torch.nn.Parameter(torch.zeros(language.hidden_size, **like))

    def forward(self, pixels: Tensor) -> Tensor:
        """Tiles [N, 3, t, t] uint8 -> their patches' embeddings, and the newline's last [N * patches + 1, H]."""
        encoder = (self.patches.weight, self.positions)
        with torch.set_grad_enabled(torch.is_grad_enabled() and any(parameter.requires_grad for parameter in encoder)):
            hidden = self.block(self._embedded(pixels), None)
        projected = self.projector(hidden).transpose(0, 1).flatten(0, 1)
        return torch.cat([projected, self.newline[None]])

    def _embedded(self, pixels: Tensor) -> Tensor:
        """Patches [patches, N, h] of tiles [N, 3, t, t], a patch's pixels in the order channel, row, column."""
        side, patch = self.vision.side, self.vision.patch
        scaled = pixels.float().div_(127.5).sub_(1.0).to(self.positions.dtype)
        cut = scaled.view(-1, 3, side, patch, side, patch).permute(2, 4, 0, 1, 3, 5).reshape(side * side, len(pixels), -1)
        return self.patches(cut) + self.positions[:, None]

    def put(self, hidden: Tensor, shown: Tiles, sequence_parallel: bool) -> Tensor:
        """Embeddings [S, b, H] (this rank's part of S under sequence parallelism) with those of images where :attr:`Tiles.sources` says."""
        sources = shown.absolute(self.vision.patches).t()
        features = self(shown.pixels)
        if sequence_parallel:
            # every rank has the features of a part of the sequence only: their gradients are parts of a sum
            features = copy_to_tensor_model_parallel_region(features)
            group = self.block.tp_group
            sources = sources.chunk(group.size())[group.rank()]
        sources = sources.reshape(-1)
        places = (sources != TEXT).nonzero().squeeze(1)
        wanted = sources[places]
        wanted = torch.where(wanted == NEWLINE, len(features) - 1, wanted)
        flat = hidden.reshape(-1, hidden.shape[-1])
        return flat.index_copy(0, places, features[wanted].to(hidden.dtype)).view_as(hidden)


class Projector(MegatronModule):
    """LLaVA's: two linear layers and a GELU, from the encoder's width to the language model's."""

    def __init__(self, inputs: int, outputs: int, config: TransformerConfig) -> None:
        super().__init__(config=config)
        same: dict[str, Any] = {"config": config, "init_method": config.init_method, "bias": True, "skip_bias_add": False}
        self.linear_1 = ColumnParallel(inputs, outputs, gather_output=False, **same)
        self.linear_2 = RowParallel(outputs, outputs, input_is_parallel=True, **same)

    def forward(self, hidden: Tensor) -> Tensor:
        """[..., h] -> [..., H]."""
        return self.linear_2(torch.nn.functional.gelu(self.linear_1(hidden)[0]))[0]


def _config(vision: VisionConfig, language: TransformerConfig) -> TransformerConfig:
    """megatron-core's config of the encoder: one pipeline stage, no experts, no dropout."""
    recompute = language.recompute_granularity
    return TransformerConfig(
        num_layers=vision.layers,
        hidden_size=vision.hidden,
        num_attention_heads=vision.heads,
        ffn_hidden_size=vision.ffn_hidden,
        normalization="LayerNorm",
        layernorm_epsilon=vision.norm_eps,
        activation_func=GELU,
        add_bias_linear=True,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        bf16=language.bf16,
        params_dtype=language.params_dtype,
        pipeline_dtype=language.params_dtype,
        tensor_model_parallel_size=language.tensor_model_parallel_size,
        perform_initialization=True,
        use_cpu_initialization=language.use_cpu_initialization,
        gradient_accumulation_fusion=False,
        bias_activation_fusion=False,
        bias_dropout_fusion=language.bias_dropout_fusion,
        masked_softmax_fusion=False,
        apply_rope_fusion=False,
        persist_layer_norm=False,
        recompute_granularity=recompute,
        recompute_method="uniform" if recompute == "full" else None,
        recompute_num_layers=1 if recompute == "full" else None,
    )


def _layers(vision: VisionConfig, config: TransformerConfig) -> TransformerBlockSubmodules:
    """megatron-core's local spec with our norms, products and attention, in which every patch of a tile sees every other."""
    from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec

    spec = get_gpt_layer_local_spec(normalization=config.normalization)
    attention, mlp = spec.submodules.self_attention, spec.submodules.mlp.submodules
    attention.params = {"attn_mask_type": AttnMaskType.no_mask}
    attention.submodules.core_attention = SdpaAttention
    attention.submodules.linear_qkv, attention.submodules.linear_proj = ColumnParallel, RowParallel
    mlp.linear_fc1, mlp.linear_fc2 = ColumnParallel, RowParallel
    spec.submodules.input_layernorm = spec.submodules.pre_mlp_layernorm = Norm
    return TransformerBlockSubmodules(layer_specs=[spec] * vision.layers)
