"""PPO whose optimizer state is in host memory while it samples is PPO, to the bit, and the state takes no other memory meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from modelyard.execution import ExecutionConfig
from modelyard.model import model_directory
from modelyard.model.network.model_config import Precision
from modelyard.model.training import offload
from modelyard.posttrain.policy import loop
from modelyard.posttrain.policy.loop import prepare
from modelyard.progress import PreemptedError, Stop, request_stop, silent
from tests.unit.posttrain.conftest import ALL

from .policies import Inputs, grpo_config, ppo_config, run, weights

KEPT, AWAY = (ExecutionConfig(threads=1, checkpoint_iterations=1, offload_optimizer=on) for on in (False, True))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_ppo_with_its_state_on_the_host_is_ppo_bit_for_bit(inputs: Inputs, tmp_path: Path, precision: Precision) -> None:
    config = ppo_config(iterations=3, precision=precision)
    kept, away = (run(config, inputs, tmp_path / name, execution) for name, execution in (("kept", KEPT), ("away", AWAY)))
    assert kept == away
    assert (tmp_path / "kept/out/history.jsonl").read_text() == (tmp_path / "away/out/history.jsonl").read_text()
    left, right = (weights(model_directory.load(tmp_path / name / "out", KEPT)) for name in ("kept", "away"))
    assert all(torch.equal(left[key], right[key]) for key in left)
    # and so are the checkpoints, which were copied just before the state left, with moments and weights in fp32
    [one, other] = (sorted((tmp_path / name / "ck/actor").glob("step_*/*.distcp")) for name in ("kept", "away"))
    assert [file.read_bytes() for file in one] == [file.read_bytes() for file in other]
    assert one


@pytest.mark.parametrize(("precision", "bytes_each"), [("fp32", 8), ("bf16", 12)])
def test_state_takes_no_memory_of_the_device_while_completions_are_sampled(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: Precision, bytes_each: int
) -> None:
    config = ppo_config(iterations=2, precision=precision)
    training = prepare(config, inputs, AWAY)
    actor, critic = training.models.actor, training.models.value
    assert critic is not None
    states = [offload.state_of(engine.optimizer) for engine in (actor, critic)]
    sizes = []

    def measured() -> list[int]:
        return [sum(tensor.untyped_storage().nbytes() for tensor in state) for state in states]

    def sampled(*given: object) -> object:
        sizes.append(measured())
        return draw(*given)

    draw = loop.sampled
    monkeypatch.setattr(loop, "sampled", sampled)
    whole = measured()
    for engine, size in zip((actor, critic), whole, strict=True):
        parameters = sum(parameter.numel() for parameter in engine.gpt.parameters())
        assert 0 <= size - bytes_each * parameters <= bytes_each * 128, "but for the padding of the flat buffer"
    loop.train(config, training, tmp_path, AWAY, silent)
    assert sizes == [[0, 0], [0, 0]]
    assert measured() == whole


def test_state_of_adapters_alone_and_of_a_policy_without_a_critic_moves_too(inputs: Inputs, tmp_path: Path) -> None:
    config = grpo_config(iterations=2, lora=ALL)
    kept, away = (run(config, inputs, tmp_path / name, execution) for name, execution in (("kept", KEPT), ("away", AWAY)))
    assert kept == away


def test_state_is_back_after_a_rollout_that_fails(inputs: Inputs) -> None:
    training = prepare(ppo_config(), inputs, AWAY)
    state = offload.state_of(training.models.actor.optimizer)
    for tensor in state:
        tensor.normal_()
    before = [tensor.clone() for tensor in state]
    with pytest.raises(RuntimeError, match="no more"), offload.Offload([training.models.actor.optimizer]) as moved, moved.asleep():
        raise RuntimeError("no more")
    assert all(torch.equal(tensor, copy) for tensor, copy in zip(state, before, strict=True))


def test_policy_that_was_stopped_with_its_state_on_the_host_resumes_without(inputs: Inputs, tmp_path: Path) -> None:
    config = ppo_config(iterations=3)
    whole = run(config, inputs, tmp_path / "whole", KEPT)

    def stopped(done: int, total: int, metrics: object = None, unit: str = "step") -> None:
        if done == 1:
            request_stop(Stop.TOLD)

    with pytest.raises(PreemptedError):
        run(config, inputs, tmp_path / "cut", AWAY, stopped)
    assert run(config, inputs, tmp_path / "cut", KEPT) == whole
