"""The parts of the GPU proof on a GPU that is pretended (``tests/unit/model/pretended_gpu.py`` says what that
leaves out): what they ask of streams, events, memory, graphs and places is what CUDA answers.

In this process and in turn, where the proof has a process a part. Of parts that differ by a size alone, which
``--tiny`` takes from them, one runs.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.gpu import parity, proof, timing, training
from bench.train import OPTIMIZER
from modelyard.execution import ExecutionConfig
from modelyard.model.checkpoints import host_copy
from modelyard.model.training.engine import Engine
from modelyard.model.training.token_data import language_model_loss
from tests.unit.model.pretended_cuda import pretended

NOT_RUN = {
    "parity-cpu": "is shown no GPU; its numbers are what parity-gpu is compared with here",
    "profile": "asks the driver which kernels ran (CUPTI): a stand-in would have to invent them",
    "te": "Transformer Engine's layers are CUDA's alone: tests/unit/model/te_program.py runs these functions over a stand-in of the package",
}
"""Beginnings of the names of parts that cannot run, and why."""
SIZES = re.compile(r"-(125M|350M|1\.3B|smollm2|16|64|128)(?=-|$)")
"""What of a part's name is a size."""


def rehearsed() -> list[str]:
    """A part of every kind that can run."""
    kinds = {SIZES.sub("", name): name for name in reversed(proof.parts()) if not name.startswith(tuple(NOT_RUN))}
    return sorted(kinds.values())


def on_gpu(monkeypatch: pytest.MonkeyPatch, name: str, directory: Path) -> dict[str, Any]:
    """What the part writes, and that it was on the GPU."""
    with pretended(monkeypatch) as gpu:
        found = proof.parts()[name].run(True, directory)
        assert gpu.held_at_most > 0, "nothing was on the GPU"
    return dict(json.loads(json.dumps(found)))


def test_parts_that_run_are_all_but_those_with_a_reason() -> None:
    assert rehearsed() == sorted(CHECKS)
    assert all(any(name.startswith(kind) for name in proof.parts()) for kind in NOT_RUN)


def trained(found: dict[str, Any]) -> bool:
    return found["tokens_per_s"] > 0 and found["mfu"] > 0 and found["peak_gib"] > 4 * 4 * found["parameters"] / 2**30


CHECKS = {
    "checkpoints": lambda found: found["largest_difference_after_resuming"] == 0 and found["bytes"] > 12 * found["parameters"],
    "collectives": lambda found: found["equal"],
    "environment": lambda found: found["peak_tflops"] == 989 and found["copy_gb_per_s"] > 0,
    "generate-qwen3-16": lambda found: min(found["tokens_per_s"].values()) > 0,
    "generate-smollm2-16": lambda found: min(found["tokens_per_s"].values()) > 0,
    "parity-gpu": lambda found: (
        found["device"] == "cuda:0"
        and found["fp32"]["logprobs_largest"] < 1e-5
        and found["fp32"]["gradient_worst_relative"] < 1e-5
        and found["fp32"]["greedy_rows_equal"] == found["fp32"]["greedy_rows"]
        and 0 < found["bf16"]["logprobs_largest"] < 0.05
    ),
    "ppo-smollm2": lambda found: found["drift_nats"] < 0.02 and found["sample_s"] > 0 < found["update_s"],
    "precisions": lambda found: 0 < found["largest_gap"] < 0.01,
    "repeats": lambda found: not any(found["as_they_come"].values()) and not any(found["deterministic"].values()),
    "resuming": lambda found: all(found[way]["resumed_equals"] for way in ("as_they_come", "deterministic")),
    "scoring-own": lambda found: found["largest_gap"]["modelyard fp32"] < 1e-4 < found["largest_gap"]["transformers bfloat16"],
    "scoring-preface": lambda found: found["largest_gap"]["modelyard fp32"] < 1e-4 < found["largest_gap"]["transformers bfloat16"],
    "train-125M-modelyard-compiled": trained,
    "train-125M-modelyard-eager": trained,
    "train-125M-transformers-compiled": trained,
    "train-125M-transformers-eager": trained,
    "train-experts-modelyard-compiled": trained,
    "train-experts-modelyard-eager": trained,
}
"""Part -> what must hold of its result."""


@pytest.mark.parametrize("name", CHECKS)
def test_part_runs_on_the_pretended_gpu(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "parity-gpu":
        parity.reference(True, tmp_path)
    if name == "repeats":  # the three kernels between are one kernel on a CPU
        monkeypatch.setattr(parity, "KERNELS", {kernel: parity.KERNELS[kernel] for kernel in ("as_in_training", "math")})
    found = on_gpu(monkeypatch, name, tmp_path)
    assert CHECKS[name](found), found


@pytest.mark.parametrize("waits", [True, False])
def test_update_waits_for_the_copies_of_a_checkpoint_and_one_that_does_not_is_seen(monkeypatch: pytest.MonkeyPatch, waits: bool) -> None:
    if not waits:
        monkeypatch.setattr(host_copy, "before_change", lambda: None)
    with pretended(monkeypatch):
        engine = Engine(training.TINY.model, ExecutionConfig(threads=1), seed=0, precision="bf16", optim=OPTIMIZER)
        weights = [weight.detach() for weight in engine.gpt.parameters()]
        before = [weight.cpu() for weight in weights]
        copies, arrive = host_copy.copied(weights)
        engine.train_step(training.batch_of(training.TINY), training.TINY.micro_batch, language_model_loss)
        arrive()
        after = [weight.cpu() for weight in weights]
    assert not same(before, after)
    assert same(copies, before if waits else after)


def same(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


def test_events_of_the_pretended_gpu_refuse_what_cudas_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    with pretended(monkeypatch):
        assert timing.each(lambda: torch.ones(3, device="cuda") + 1) >= 0
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        with pytest.raises(RuntimeError, match="must be recorded"):
            begin.elapsed_time(end)
        end.record()
        with pytest.raises(RuntimeError, match="must be completed"):
            begin.elapsed_time(end)


def test_copy_to_the_host_on_a_stream_beside_has_what_was_there_when_it_was_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waited, late = torch.zeros(2), torch.zeros(2)
    with pretended(monkeypatch):
        there, beside = torch.ones(2, device="cuda"), torch.cuda.Stream()
        with torch.cuda.stream(beside):
            waited.copy_(there, non_blocking=True)
        torch.cuda.current_stream().wait_stream(beside)
        with torch.cuda.stream(beside):
            late.copy_(there, non_blocking=True)
        there.zero_()
        torch.cuda.synchronize()
    assert waited.tolist() == [1, 1]
    assert late.tolist() == [0, 0]
