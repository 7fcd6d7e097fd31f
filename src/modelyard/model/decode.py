"""Forward steps of a language model with a key-value cache, without megatron-core's Python around every layer.

A decoding step of a small model is nearly all overhead. This module reads the same weight tensors that training uses and spells the layer out in
about 25 calls; tests hold its log-probabilities to the training forward's (1e-5 in fp32) for both styles, at every layout. Batch first, buffers
allocated once, the r queries of a key group side by side so that grouped attention is plain attention. Norms, word embeddings and experts are
called as the modules they are. Left out: anything but causal prefill and one-token steps.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from modelyard.model import parallel
from modelyard.model.engine import Engine


class Decoder:
    """This rank's layers and their keys and values for ``batch`` sequences of at most ``length`` tokens."""

    def __init__(self, engine: Engine, batch: int, length: int) -> None:
        from megatron.core import parallel_state

        self.engine, self.gpt = engine, engine.gpt
        self.tp_group = parallel_state.get_tensor_model_parallel_group() if engine.layout.tp > 1 else None
        self.layers = [_Layer(layer, batch, length, engine.model.style == "llama", self.tp_group) for layer in self.gpt.decoder.layers]
        self.rotation: tuple[Tensor, Tensor] | None = None
        if engine.model.style == "llama":
            angles = self.gpt.rotary_pos_emb(length).view(1, length, 1, 1, -1)
            half, dtype = angles.shape[-1] // 2, next(self.gpt.parameters()).dtype
            sin = angles.sin()
            self.rotation = angles.cos().to(dtype), torch.cat((-sin[..., :half], sin[..., half:]), -1).to(dtype)

    def logits(self, tokens: Tensor, position: int) -> Tensor:
        """Feed tokens [b, n] at ``position`` through every stage; logits [b, V] of the token after them, fp32, on every rank."""
        layout, (batch, count) = self.engine.layout, tokens.shape
        hidden = self._embed(tokens, position) if layout.is_first_stage else self._receive(batch, count)
        rotation = None
        if self.rotation is not None:
            cos, sin = self.rotation
            rotation = cos[:, position : position + count], sin[:, position : position + count]
        for layer in self.layers:
            hidden = layer(hidden, rotation, position)
        if layout.pp == 1:
            return self._head(hidden)
        if layout.is_last_stage:
            return parallel.from_last_stage(self._head(hidden), (batch, self.engine.model.vocab_size), torch.float32)
        self._send(hidden)
        return parallel.from_last_stage(None, (batch, self.engine.model.vocab_size), torch.float32)

    def _embed(self, tokens: Tensor, position: int) -> Tensor:
        embedding = self.gpt.embedding
        hidden = embedding.word_embeddings(tokens)
        if embedding.add_position_embedding:
            hidden = hidden + embedding.position_embeddings.weight[position : position + tokens.shape[1]]
        return hidden.clone()

    def _head(self, hidden: Tensor) -> Tensor:
        gpt = self.gpt
        tied = gpt.share_embeddings_and_output_weights
        weight = gpt.shared_embedding_or_output_weight() if tied else gpt.output_layer.weight
        logits = F.linear(gpt.decoder.final_layernorm(hidden[:, -1]), weight)
        if self.tp_group is not None:
            parts = [torch.empty_like(logits) for _ in range(self.engine.layout.tp)]
            dist.all_gather(parts, logits, group=self.tp_group)
            logits = torch.cat(parts, -1)
        return logits[:, : self.engine.model.vocab_size].float()

    def _receive(self, batch: int, count: int) -> Tensor:
        from megatron.core import parallel_state

        dtype = next(self.gpt.parameters()).dtype
        hidden = torch.empty(batch, count, self.engine.model.hidden, dtype=dtype, device=parallel.device())
        dist.recv(hidden, parallel_state.get_pipeline_model_parallel_prev_rank(), group=parallel_state.get_pipeline_model_parallel_group())
        return hidden

    def _send(self, hidden: Tensor) -> None:
        from megatron.core import parallel_state

        target = parallel_state.get_pipeline_model_parallel_next_rank()
        dist.send(hidden.contiguous(), target, group=parallel_state.get_pipeline_model_parallel_group())


class _Layer:
    """One transformer layer over the weights of megatron-core's, with its key-value buffers [b, groups, length, d]."""

    def __init__(self, layer: Any, batch: int, length: int, gated: bool, tp_group: Any | None) -> None:
        attention, mlp = layer.self_attention, layer.mlp
        self.gated, self.tp_group = gated, tp_group
        self.norms = layer.input_layernorm, layer.pre_mlp_layernorm
        self.qkv, self.projection = attention.linear_qkv, attention.linear_proj
        self.experts = None if hasattr(mlp, "linear_fc1") else mlp
        if self.experts is None:
            self.up, self.down = mlp.linear_fc1, mlp.linear_fc2
        self.groups, self.width = attention.num_query_groups_per_partition, attention.hidden_size_per_attention_head
        self.ratio = attention.num_attention_heads_per_partition // self.groups
        self.scale = attention.core_attention.softmax_scale
        weight = self.qkv.weight
        self.keys, self.values = (
            torch.empty(batch, self.groups, length, self.width, dtype=weight.dtype, device=weight.device) for _ in range(2)
        )

    def __call__(self, hidden: Tensor, rotation: tuple[Tensor, Tensor] | None, position: int) -> Tensor:
        """Hidden [b, n, h] at ``position`` -> [b, n, h], in place."""
        hidden += self._reduced(self._attend(self.norms[0](hidden), rotation, position), self.projection)
        normed = self.norms[1](hidden)
        if self.experts is not None:
            output, _ = self.experts(normed.transpose(0, 1).contiguous())
            hidden += output.transpose(0, 1)
            return hidden
        inner = F.linear(normed, self.up.weight, self.up.bias)
        if self.gated:
            gate, up = inner.chunk(2, -1)
            inner = F.silu(gate).mul_(up)
        else:
            inner = F.gelu(inner)
        hidden += self._reduced(inner, self.down)
        return hidden

    def _reduced(self, inner: Tensor, linear: Any) -> Tensor:
        """A row-parallel product, summed over the tensor-parallel ranks before its bias is added."""
        if self.tp_group is None:
            return F.linear(inner, linear.weight, linear.bias)
        output = F.linear(inner, linear.weight)
        dist.all_reduce(output, group=self.tp_group)
        return output if linear.bias is None else output + linear.bias

    def _attend(self, normed: Tensor, rotation: tuple[Tensor, Tensor] | None, position: int) -> Tensor:
        """Context [b, n, heads * d] of normed hidden states, whose keys and values are remembered."""
        batch, count, _ = normed.shape
        end, ratio = position + count, self.ratio
        fused = F.linear(normed, self.qkv.weight, self.qkv.bias).view(batch, count, self.groups, ratio + 2, self.width)
        turned = fused[..., : ratio + 1, :]  # a group's queries and its key: rotated together
        if rotation is not None:
            turned = (turned * rotation[0]).addcmul_(turned.roll(self.width // 2, -1), rotation[1])
        self.keys[:, :, position:end] = turned[..., ratio, :].transpose(1, 2)
        self.values[:, :, position:end] = fused[..., ratio + 1, :].transpose(1, 2)
        keys, values = self.keys[:, :, :end], self.values[:, :, :end]
        if count == 1:  # the queries of a group are rows of one product, and all of them see the whole cache
            return F.scaled_dot_product_attention(turned[:, 0, :, :ratio], keys, values, scale=self.scale).view(batch, 1, -1)
        assert position == 0, "several tokens at once only at the beginning"
        query = turned[..., :ratio, :].reshape(batch, count, -1, self.width).transpose(1, 2)
        context = F.scaled_dot_product_attention(query, keys, values, is_causal=True, scale=self.scale, enable_gqa=ratio > 1)
        return context.transpose(1, 2).reshape(batch, count, -1)
