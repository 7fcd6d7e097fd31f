"""Training with ``execution.compile``: one graph for all layers, which nothing breaks, and the losses of training without."""

import pytest
import torch
from torch._dynamo.utils import counters

from modelyard.execution import ExecutionConfig
from modelyard.model.training.engine import Engine
from modelyard.model.training.token_data import language_model_loss
from tests.unit.model import layout_program as program


@pytest.mark.slow
@pytest.mark.parametrize(("style", "experts"), [("llama", False), ("llama", True), ("gpt", False), ("gpt", True)])
def test_compiled_layers_are_one_graph_and_learn_as_others_do(style: str, experts: bool) -> None:
    shape = program.model(style, True, experts=experts)
    batch = program.batch_of(shape)

    def losses(compiled: bool) -> list[float]:
        execution = ExecutionConfig(threads=1, compile=compiled)
        engine = Engine(shape, execution, seed=0, precision="fp32", optim=program.OPTIMIZER, total_steps=100)
        return [float(engine.train_step(batch, 4, language_model_loss)["loss"]) for _ in range(3)]

    torch._dynamo.reset()
    counters.clear()
    plain = losses(False)
    assert losses(True) == pytest.approx(plain, rel=1e-5)
    assert not counters["graph_break"]
    assert counters["stats"]["unique_graphs"] == 1
