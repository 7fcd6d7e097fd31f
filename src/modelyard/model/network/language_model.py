"""megatron-core's ``GPTModel`` with our faster parts: fused output layer and loss, rotary positions in fewer passes, oneDNN's products.

Same parameters, names and mathematics; only what runs between the matrix products differs (see
:mod:`modelyard.model.network.fused`). Rotary angles are those of the position ids, which megatron-core does not look at,
by our own frequencies (:mod:`modelyard.model.network.rope`). Left out: multi-token prediction.
"""

from __future__ import annotations

from typing import Any

import torch
from megatron.core.models.common.embeddings import rope_utils
from megatron.core.models.gpt import GPTModel
from megatron.core.tensor_parallel import (
    ColumnParallelLinear,
    RowParallelLinear,
    copy_to_tensor_model_parallel_region,
    gather_from_sequence_parallel_region,
)
from megatron.core.transformer.utils import make_sharded_tensors_for_checkpoint
from torch import Tensor

from modelyard.model.network import fused, onednn, weight_gradients
from modelyard.model.network.grouped_experts import GroupedLinear
from modelyard.model.network.lora import PLACE, Adapters
from modelyard.model.network.tiles import Tiles
from modelyard.model.network.vision import VisionConfig


class LanguageModel(GPTModel):
    """``GPTModel`` that turns hidden states and labels into losses without materialising fp32 logits; negative labels have none (0)."""

    def __init__(
        self,
        *,
        real_vocab: int,
        embedding_scale: float | None,
        frequencies: Tensor | None,
        amplitude: float,
        vision: VisionConfig | None = None,
        **settings: Any,
    ) -> None:
        """``embedding_scale``: what embeddings are multiplied by; ``frequencies`` [d / 2] and ``amplitude`` of rotary positions."""
        super().__init__(**settings)
        if vision is not None and self.pre_process:
            from modelyard.model.network.patch_encoder import PatchEncoder  # which has our linear layers

            self.vision = PatchEncoder(vision, self.config)
        self.real_vocab, self.amplitude = real_vocab, amplitude
        # rounded as the weights are, which is how Gemma was trained
        self.embedding_scale = None if embedding_scale is None else float(torch.tensor(embedding_scale, dtype=self.config.params_dtype))
        if frequencies is not None:
            self.rotary_pos_emb.cp_group = None  # a table of all positions, of which the position ids choose
            self.rotary_pos_emb.inv_freq = frequencies.to(self.rotary_pos_emb.inv_freq.device)
        self._places: Tensor | slice | None = None
        self._shown: Tiles | None = None

    def forward(self, *inputs: Any, places: Tensor | slice | None = None, shown: Tiles | None = None, **arguments: Any) -> Tensor:
        """megatron-core's; ``places``: which of the flattened labels [S * b] are asked for (indices, or a
        slice of all); ``shown``: the tiles of the batch's images.

        The caller says so because finding out here would make the host wait for a GPU once a micro-batch.
        """
        self._places, self._shown = places, shown
        return super().forward(*inputs, **arguments)

    def _preprocess(self, *, position_ids: Tensor, **arguments: Any) -> tuple[Any, ...]:
        """megatron-core's, with rotary factors [2, S, b, 1, d] in place of angles, computed once for all
        layers.

        They are those of ``position_ids`` [b, S]; [1, S] where all rows count alike gives [2, S, 1, 1, d].
        """
        hidden, angles, *rest = super()._preprocess(position_ids=position_ids, **arguments)
        if hidden is not None and self.embedding_scale is not None:
            hidden = hidden * self.embedding_scale
        if hidden is not None and self._shown is not None:
            hidden = self.vision.put(hidden, self._shown, self.config.sequence_parallel)
        frozen = self.config.recompute_granularity == "full" or hasattr(self, "vision")
        if hidden is not None and self.training and torch.is_grad_enabled() and frozen:
            # a layer that is computed again learns only if its input does, which a frozen embedding's does not; and where only what images
            # show is trained, a micro-batch without one has a loss all the same
            hidden = hidden if hidden.requires_grad else hidden.requires_grad_()
        if angles is None:
            return hidden, None, *rest
        return hidden, fused.rotary_factors(angles[:, 0][position_ids.t()], self.config.params_dtype, self.amplitude), *rest

    def _postprocess(self, hidden_states: Tensor, *, labels: Tensor | None, **arguments: Any) -> Tensor:
        if labels is None or not self.post_process:
            return super()._postprocess(hidden_states=hidden_states, labels=labels, **arguments)
        tp = self.pg_collection.tp
        weight = self.shared_embedding_or_output_weight() if self.share_embeddings_and_output_weights else self.output_layer.weight
        if self.output_layer.sequence_parallel:
            hidden = gather_from_sequence_parallel_region(hidden_states, tensor_parallel_output_grad=True, group=tp)
        else:
            hidden = copy_to_tensor_model_parallel_region(hidden_states, group=tp)
        length, batch, width = hidden.shape
        rows, flat, group = hidden.reshape(-1, width), labels.t().reshape(-1), tp if tp.size() > 1 else None
        places = self._places
        assert places is not None, "labels without places"
        tied = self.output_layer.weight is None  # to the embedding on this stage
        gradient = (weight_gradients.sum_of(weight), tied)
        if isinstance(places, slice):
            logprobs = fused.label_logprobs(rows, weight, flat, self.real_vocab, group, *gradient)
        else:  # prompts and padding need no logits
            asked = flat[places]
            found = fused.label_logprobs(rows[places], weight, asked, self.real_vocab, group, *gradient)
            logprobs = found.new_zeros(len(flat)).index_copy(0, places, found.where(asked >= 0, 0.0))
        return -logprobs.view(length, batch).t()

    def summed_in_place(self) -> list[torch.nn.Parameter]:
        """The trained weights whose whole gradients are added to their sums by the products themselves (see ``weight_gradients``): those of
        linear layers, of experts, and the output layer's unless it is the embedding too."""
        layers = [module for module in self.modules() if isinstance(module, _OwnProduct | GroupedLinear)]
        output = getattr(self, "output_layer", None)
        weights = [layer.weight for layer in (*layers, *([output] if isinstance(output, ColumnParallelLinear) else []))]
        return [weight for weight in weights if weight is not None and weight.requires_grad]


class _OwnProduct:
    """Mixed into megatron-core's linear layers: the product is ours wherever no communication is woven into its backward pass, and adapters
    (:mod:`modelyard.model.network.lora`) add to it. The gradient of the weight is added to its sum in either case."""

    weight: torch.nn.Parameter

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.adapters: Adapters | None = None

    def forward(self, input_: Tensor, *args: Any, **settings: Any) -> tuple[Tensor, Tensor | None]:
        """megatron-core's, with what adapters add."""
        output, bias = super().forward(input_, *args, **settings)  # type: ignore[misc]
        if self.adapters is not None:
            output = output + self.adapters(input_, self.sequence_parallel, self.tp_group)  # type: ignore[attr-defined]
        return output, bias

    def sharded_state_dict(self, prefix: str = "", sharded_offsets: Any = (), metadata: Any = None) -> dict[str, Any]:
        """megatron-core's, with adapters cut as their layer is."""
        entries: dict[str, Any] = super().sharded_state_dict(prefix, sharded_offsets, metadata)  # type: ignore[misc]
        if self.adapters is None:
            return entries
        own = self.adapters.state_dict(prefix=f"{PLACE}.", keep_vars=True)
        groups = {"tp_group": self.tp_group, "dp_cp_group": metadata["dp_cp_group"]}  # type: ignore[attr-defined]
        return entries | make_sharded_tensors_for_checkpoint(own, prefix, self.adapters.split_axes(), sharded_offsets, **groups)

    def _forward_impl(self, input: Tensor, weight: Tensor, *args: Any, **settings: Any) -> Tensor:
        total = weight_gradients.sum_of(weight) if weight.requires_grad else None
        if not (args or settings["allreduce_dgrad"] or settings["sequence_parallel"]):
            return fused.linear(input, weight, settings["bias"], total)
        wide: Any = onednn.computed(weight)
        if total is not None:
            wide.main_grad, settings["gradient_accumulation_fusion"] = total, True
        return super()._forward_impl(onednn.computed(input), wide, *args, **settings).to(input.dtype)  # type: ignore[misc]


class ColumnParallel(_OwnProduct, ColumnParallelLinear):
    """``ColumnParallelLinear`` with our product."""


class RowParallel(_OwnProduct, RowParallelLinear):
    """``RowParallelLinear`` with our product."""


def use_fused_rotary() -> bool:
    """Put our rotary positions where megatron-core looks for Transformer Engine's, whose kernel has one position for all rows of a batch."""
    rope_utils.fused_apply_rotary_pos_emb = fused.rotary
    return True
