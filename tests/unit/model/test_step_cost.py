"""How often a training step makes the host wait for its results, and how many operations it launches: both fall on a GPU's time.

Counted on a CPU, where an operation that reads a number for the host (or finds out a shape from values) is the same call as on a GPU. What the
host asks of labels before they are sent to a device is not counted, and what masks hide is a CPU's question alone. Ways that are a GPU's alone are
counted in ``test_gpu_cost.py``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from modelyard.execution import ExecutionConfig
from modelyard.model.network import attention, devices, onednn
from modelyard.model.training import placement
from modelyard.model.training.batch import Batch, LossFn, LossOutput
from modelyard.model.training.engine import Engine

from . import layout_program as program
from .pretended_gpu import FREE, WAITS

pytestmark = pytest.mark.numerics

OF_A_LAYER = {True: 109, False: 131}
"""Operations of a layer's forward and backward pass and of its update, with a CPU's own bf16 instructions and without."""


class Counting(TorchDispatchMode):
    """Counts what is computed and what the host waits for, while it is on."""

    def __init__(self) -> None:
        super().__init__()
        self.launched: Counter[str] = Counter()
        self.waited: Counter[str] = Counter()
        self.on = True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        by_values = name in ("index", "index_put", "index_put_") and any(one is not None and one.dtype == torch.bool for one in args[1])
        if self.on and (name in WAITS or by_values):
            self.waited[name] += 1
        elif self.on and name not in FREE:
            self.launched[name] += 1
        return func(*args, **(kwargs or {}))

    def beside(self, call: Callable[..., Any], named: str = "") -> Callable[..., Any]:
        """The same call, of which nothing is counted but, by its name, that it waits."""

        def uncounted(*args: Any) -> Any:
            self.on = False
            try:
                return call(*args)
            finally:
                self.on = True
                if named:
                    self.waited[named] += 1

        return uncounted


def counted(
    monkeypatch: pytest.MonkeyPatch, layers: int, micro_batch: int, case: str = "llama-tied", loss: LossFn = program.masked_loss
) -> Counting:
    """The second step of a model of ``layers`` layers on 8 rows."""
    shape = program.case(case).model_copy(update={"layers": layers})
    engine = Engine(shape, ExecutionConfig(threads=1), seed=0, precision="bf16", optim=program.OPTIMIZER, total_steps=4)
    engine.train_step(program.batch_of(shape), micro_batch, loss)
    counting = Counting()
    with monkeypatch.context() as patched, counting:
        patched.setattr(placement, "labelled", counting.beside(placement.labelled))
        patched.setattr(attention, "pieces_of", lambda mask, dtype: None)
        patched.setattr(devices, "on_host", counting.beside(devices.on_host, "on_host"))
        engine.train_step(program.batch_of(shape), micro_batch, loss)
    return counting


@pytest.mark.parametrize("case", ["llama-tied", "llama-variant", "gpt-untied"])
@pytest.mark.parametrize(("layers", "micro_batch"), [(2, 8), (4, 8), (2, 2)])
def test_host_waits_for_a_steps_metrics_and_its_norm_and_for_nothing_else(
    monkeypatch: pytest.MonkeyPatch, case: str, layers: int, micro_batch: int
) -> None:
    assert counted(monkeypatch, layers, micro_batch, case).waited == {"on_host": 2}


def test_loss_that_reads_a_number_is_seen_to_wait_in_every_micro_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    def reading(output: Tensor, part: Batch) -> LossOutput:
        float(output.detach().sum())
        return program.masked_loss(output, part)

    assert counted(monkeypatch, 2, 2, loss=reading).waited == {"on_host": 2, "_local_scalar_dense": 4}


def test_update_is_as_few_operations_whatever_the_layers_and_micro_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    few, many, pieces = counted(monkeypatch, 2, 8), counted(monkeypatch, 4, 8), counted(monkeypatch, 2, 2)
    for name in ("_fused_adamw_", "_foreach_norm", "_foreach_copy_"):
        assert few.launched[name] == many.launched[name] == pieces.launched[name] > 0
    assert few.launched["copy_"] == many.launched["copy_"] == pieces.launched["copy_"]


def test_layer_launches_no_more_operations_than_when_they_were_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    few, many = counted(monkeypatch, 2, 8), counted(monkeypatch, 4, 8)
    launched = (sum(many.launched.values()) - sum(few.launched.values())) / 2
    assert launched <= OF_A_LAYER[onednn.BF16], many.launched - few.launched
