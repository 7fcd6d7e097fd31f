"""Experts by grouped products are megatron-core's loop over experts: outputs, gradients and names in checkpoints."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from modelyard.execution import ExecutionConfig
from modelyard.model.network import architecture, parallel
from modelyard.model.network.experts import MoEConfig
from modelyard.model.network.model_config import ModelConfig

from . import layout_program as program

pytestmark = pytest.mark.numerics

ROUTED = {"uneven": [5, 0, 12, 1], "one": [0, 0, 0, 7], "none": [0, 0, 0, 0]}


def pair(style: str, precision: Any) -> tuple[Any, Any]:
    """Our experts and megatron-core's loop with the same weights."""
    execution = ExecutionConfig(threads=1)
    parallel.initialize(execution)
    from megatron.core.process_groups_config import ProcessGroupCollection
    from megatron.core.tensor_parallel import ColumnParallelLinear, RowParallelLinear
    from megatron.core.transformer.mlp import MLPSubmodules
    from megatron.core.transformer.moe.experts import SequentialMLP

    from modelyard.model.network.grouped_experts import GroupedExperts

    shape = ModelConfig.model_validate(
        {**program.case(f"{style}-experts").model_dump(), "moe": MoEConfig(experts=4, top_k=2, aux_loss=0.0)}
    )
    config, groups = architecture.transformer_config(shape, execution, precision), ProcessGroupCollection.use_mpu_process_groups()
    ours = GroupedExperts(4, config, groups)
    loop = SequentialMLP(4, config, MLPSubmodules(linear_fc1=ColumnParallelLinear, linear_fc2=RowParallelLinear), groups)
    with torch.no_grad():
        for name in ("linear_fc1", "linear_fc2"):
            weight = getattr(ours, name).weight
            for number, expert in enumerate(loop.local_experts):
                theirs = getattr(expert, name).weight
                weight[number] = theirs.copy_(torch.randn(theirs.shape, generator=torch.Generator().manual_seed(number)) / 8)
    return ours, loop


def answers(experts: Any, hidden: Tensor, gates: Tensor, counts: list[int]) -> tuple[Tensor, ...]:
    """Outputs and gradients of tokens and gates."""
    hidden, gates = hidden.clone().requires_grad_(), gates.clone().requires_grad_()
    output, _ = experts(hidden, torch.tensor(counts), gates)
    (output.float() * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
    assert hidden.grad is not None
    assert gates.grad is not None
    return output.detach(), hidden.grad, gates.grad


@pytest.mark.parametrize("counts", ROUTED.values(), ids=ROUTED)
@pytest.mark.parametrize(("precision", "close"), [("fp32", 1e-6), ("bf16", 8e-3)])
@pytest.mark.parametrize("style", ["llama", "gpt"])
def test_grouped_experts_against_the_loop_over_experts_are_equal(style: str, precision: str, close: float, counts: list[int]) -> None:
    ours, loop = pair(style, precision)
    generator, dtype = torch.Generator().manual_seed(1), torch.bfloat16 if precision == "bf16" else torch.float32
    hidden, gates = torch.randn(sum(counts), 32, generator=generator).to(dtype), torch.rand(sum(counts), generator=generator)
    for found, expected in zip(answers(ours, hidden, gates, counts), answers(loop, hidden, gates, counts), strict=True):
        torch.testing.assert_close(found, expected, rtol=close, atol=close)
    for name in ("linear_fc1", "linear_fc2"):
        theirs = [getattr(expert, name).weight for expert in loop.local_experts]
        expected = torch.stack([torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in theirs])
        torch.testing.assert_close(
            getattr(ours, name).weight.grad, expected, rtol=close, atol=close * max(1.0, float(expected.abs().max()))
        )


@pytest.mark.parametrize("style", ["llama", "gpt"])
def test_grouped_experts_in_a_checkpoint_stand_under_the_names_of_single_ones(style: str) -> None:
    ours, loop = pair(style, "fp32")
    layer = ((0, 1, 3),)  # the second of three layers
    own = {entry.key: entry for entry in ours.sharded_state_dict("mlp.experts.", layer).values()}
    for entry in loop.sharded_state_dict("mlp.experts.", layer).values():
        for piece in entry.build() if hasattr(entry, "build") else [entry]:
            if not piece.key.endswith("weight"):
                continue
            assert piece.global_shape == own[piece.key].global_shape
            whole = torch.zeros(piece.global_shape)
            whole[own[piece.key].global_slice()] = own[piece.key].data.detach()
            assert torch.equal(whole[piece.global_slice()].view(piece.local_shape), piece.data)


def test_deeper_model_with_experts_trains_after_a_shallower_one_in_one_process() -> None:
    for name in ("llama-experts", "llama-deep_experts"):
        engine = program.engine(ExecutionConfig(threads=1), name, "lm")
        answer = engine.train_step(program.batch_of(program.case(name)), 4, program.masked_loss)
        assert answer["grad_norm"] > 0
