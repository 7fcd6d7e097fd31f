"""Resume, data order, checkpoints and refusals of the training loop."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modelyard.execution import ExecutionConfig
from modelyard.formats.token_rows import TokenRows, write_rows
from modelyard.model.checkpoints import checkpoint
from modelyard.model.checkpoints.writer import DiskFullError
from modelyard.model.network.model_config import ModelConfig
from modelyard.model.training.batch import SEGMENTS, STEM, Batch, LossOutput
from modelyard.model.training.engine import Engine, NotFiniteError
from modelyard.model.training.recipe import Recipe, Trained, train_language_model
from modelyard.model.training.token_data import TokenBatches
from modelyard.progress import PreemptedError, silent
from modelyard.store.file_hash import sha256_tree

from .layout_program import OPTIMIZER, VISION, batch, masked_loss, model

EXECUTION = ExecutionConfig(threads=1, checkpoint_every=4, log_every=1)


class KilledError(Exception):
    """Stands for kill -9: raised between two steps, so nothing after it runs."""


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    start = generator.integers(0, 128, (11, 1))  # 11 rows never divide by the batch of 4
    validation = (generator.integers(0, 128, (3, 1)) + np.arange(33)) % 128
    write_rows(tmp_path, {"train": (start + np.arange(33)) % 128, "validation": validation}, vocabulary=128, separator=0)
    return tmp_path


def train(tokens: Path, checkpoints: Path, steps: int = 10, kill_at: int | None = None, starts: list[int] | None = None) -> Trained:
    def report(done: int, total: int, metrics: object = None, unit: str = "") -> None:
        if starts is not None:
            starts.append(done // (4 * 32))
        if kill_at is not None and done >= kill_at * 4 * 32:
            raise KilledError

    recipe = Recipe(model=model("llama", True), optimizer=OPTIMIZER, precision="fp32", steps=steps, batch=4, micro_batch=2, seed=1)
    return train_language_model(recipe, tokens, "pretrain", checkpoints, EXECUTION, report)


def test_training_killed_and_resumed_equals_an_uninterrupted_run_bit_for_bit(tokens: Path, tmp_path: Path) -> None:
    whole = train(tokens, tmp_path / "whole")
    with pytest.raises(KilledError):
        train(tokens, tmp_path / "killed", kill_at=7)
    resumed = train(tokens, tmp_path / "killed")
    assert all(torch.equal(a, b) for a, b in zip(whole.engine.gpt.parameters(), resumed.engine.gpt.parameters(), strict=True))
    assert whole.history.lines == resumed.history.lines
    for name, trained in (("one", whole), ("two", resumed)):
        trained.engine.save_weights(tmp_path / name)
    assert sha256_tree(tmp_path / "one") == sha256_tree(tmp_path / "two")
    assert whole.held_out == resumed.held_out


def test_training_killed_across_an_epoch_boundary_skips_and_repeats_no_sample(
    tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [tuple(row[:-1].tolist()) for row in TokenRows(tokens, "train")[:].tokens]
    assert len(set(rows)) == 11
    seen: dict[int, list[int]] = {}
    train_step = Engine.train_step

    def recorded(engine: Engine, part: Batch, *arguments: Any) -> dict[str, float]:
        seen[engine.step] = [rows.index(tuple(row)) for row in part.tokens.tolist()]
        return train_step(engine, part, *arguments)

    monkeypatch.setattr(Engine, "train_step", recorded)
    train(tokens, tmp_path / "whole", steps=14)
    whole = dict(seen)
    seen.clear()
    with pytest.raises(KilledError):
        train(tokens, tmp_path / "killed", steps=14, kill_at=7)  # the newest checkpoint is that of step 4
    before = {step: ids for step, ids in seen.items() if step < 4}
    seen.clear()
    train(tokens, tmp_path / "killed", steps=14)
    assert min(seen) == 4
    assert {**before, **seen} == whole
    order = [index for step in range(14) for index in whole[step]]  # 56 samples: five epochs of 11 and one more
    for epoch in range(5):
        assert sorted(order[epoch * 11 : (epoch + 1) * 11]) == list(range(11))


def test_training_on_a_learnable_sequence_overfits(tokens: Path, tmp_path: Path) -> None:
    trained = train(tokens, tmp_path / "checkpoints", steps=60)
    assert trained.history.lines[0]["pretrain/train/loss"] > 4.5
    assert trained.held_out.value < 0.5


def test_token_batches_across_epochs_skip_and_repeat_nothing(tokens: Path) -> None:
    batches = TokenBatches(TokenRows(tokens, "train"), batch=4, seed=3)
    seen = [index for step in range(11) for index in batches.indices(step)]  # 44 samples: exactly four epochs
    for epoch in range(4):
        assert sorted(seen[epoch * 11 : (epoch + 1) * 11]) == list(range(11))
    assert seen[:11] != seen[11:22]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the checkpoints said."""
    return [record.getMessage() for record in caplog.records if record.name == checkpoint.__name__]


def damage(newest: Path, how: str) -> str:
    """Harm a checkpoint as a crash or a disk would; returns the reason that must be named."""
    largest = max(newest.iterdir(), key=lambda path: path.stat().st_size)
    data = bytearray(largest.read_bytes())
    if how == "half-written":
        (newest / checkpoint.COMPLETE).unlink()
        return "half-written (no complete.json)"
    if how == "missing":
        largest.unlink()
        return f"{largest.name} is missing"
    if how == "truncated":
        largest.write_bytes(data[:-100])
        return f"{largest.name} has {len(data) - 100} bytes, {len(data)} were written"
    if how == "unreadable":
        (newest / checkpoint.COMPLETE).write_text('{"note": {')
        return "complete.json is unreadable"
    data[len(data) // 2] ^= 1
    largest.write_bytes(data)
    return f"{largest.name} has changed since it was written"


@pytest.mark.parametrize("how", ["half-written", "missing", "truncated", "bit-flipped", "unreadable"])
def test_resume_from_a_damaged_checkpoint_uses_the_one_before_and_says_why(
    tokens: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    whole = train(tokens, tmp_path)  # checkpoints at 4 and 8
    newest = checkpoint.step_directory(tmp_path, 8)
    assert checkpoint.latest(tmp_path) == newest
    assert not warnings(caplog)
    reason = damage(newest, how)
    starts: list[int] = []
    resumed = train(tokens, tmp_path, starts=starts)
    assert starts[0] == 4
    [line] = warnings(caplog)
    assert line.startswith(f"checkpoint {newest} is not used: {reason}")
    assert line.endswith("going on from step_00000004")
    assert "\n" not in line
    assert all(torch.equal(a, b) for a, b in zip(whole.engine.gpt.parameters(), resumed.engine.gpt.parameters(), strict=True))


def test_latest_with_a_damaged_partner_is_the_step_at_which_both_are_whole(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    engine = Engine(model("llama", True), EXECUTION, seed=1, precision="fp32")
    for step in (3, 6):
        for role in ("actor", "value"):
            engine.save_weights(checkpoint.step_directory(tmp_path / role, step))
    damage(checkpoint.step_directory(tmp_path / "value", 6), "truncated")
    assert checkpoint.latest(tmp_path / "actor", tmp_path / "value") == checkpoint.step_directory(tmp_path / "actor", 3)
    assert "value/step_00000006" in warnings(caplog)[0]
    damage(checkpoint.step_directory(tmp_path / "actor", 3), "missing")
    assert checkpoint.latest(tmp_path / "actor", tmp_path / "value") is None
    assert warnings(caplog)[-1].endswith("going on from the start")


def test_train_step_with_a_nan_loss_names_rank_and_step_and_changes_nothing() -> None:
    engine = Engine(model("llama", True), EXECUTION, seed=1, precision="fp32", optim=OPTIMIZER, total_steps=4)
    before = [parameter.clone() for parameter in engine.gpt.parameters()]

    def poisoned(output: torch.Tensor, part: Batch) -> LossOutput:
        result = masked_loss(output, part)
        return LossOutput(result.loss_sum * float("nan"), result.count, {})

    with pytest.raises(FloatingPointError, match="rank 0: loss is nan at step 0"):
        engine.train_step(batch(), 2, poisoned)
    assert all(torch.equal(a, b) for a, b in zip(before, engine.gpt.parameters(), strict=True))


@pytest.mark.parametrize("error", [NotFiniteError("rank 3: loss is nan", 3), PreemptedError("stopped", 3), DiskFullError("no room", 3)])
def test_errors_of_a_rank_survive_the_way_to_the_driver(error: Exception) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.rank) == (type(error), str(error), 3)


def test_bf16_training_lowers_the_loss() -> None:
    engine = Engine(model("llama", True), EXECUTION, seed=1, precision="bf16", optim=OPTIMIZER, total_steps=20)
    losses = [engine.train_step(batch(), 8, masked_loss)["loss"] for _ in range(20)]
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden": 33}, "hidden 33 is not divisible by heads 4"),
        ({"kv_heads": 3}, "heads 4 is not divisible by kv_heads 3"),
        ({"moe": {"experts": 4, "top_k": 5, "aux_loss": 0.0}}, "top_k 5 between 1 and experts"),
        (
            {"ffn_hidden": 44, "moe": {"experts": 4, "top_k": 2, "aux_loss": 0.0}},
            r"ffn_hidden 44 of experts \(moe\) must be divisible by 8",
        ),
    ],
)
def test_model_config_with_an_impossible_shape_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelConfig.model_validate({**model("llama", True).model_dump(), **change})


@pytest.mark.parametrize("style", ["llama", "gpt"])
@pytest.mark.parametrize("change", [{}, {"tie_embeddings": False}, {"head_dim": 16}, {"moe": {"experts": 4, "top_k": 1, "aux_loss": 0.0}}])
def test_parameter_count_equals_the_built_model(style: str, change: dict[str, Any]) -> None:
    shape = ModelConfig.model_validate({**model(style, True).model_dump(), **change})
    engine = Engine(shape, EXECUTION, seed=1, precision="fp32")
    assert shape.parameters() == sum(parameter.numel() for parameter in engine.gpt.parameters())
    idle = sum(p[1:].numel() for name, p in engine.gpt.named_parameters() if ".mlp.experts." in name)
    assert shape.parameters(active=True) == shape.parameters() - idle


@pytest.mark.parametrize(
    ("change", "layout", "message"),
    [
        ({}, (3, 1, 1), "model.heads 4 is not divisible by execution.tensor_parallel 3"),
        (
            {"heads": 6, "kv_heads": 3, "head_dim": 8},
            (2, 1, 1),
            "model.kv_heads 3 is neither a multiple nor a divisor of execution.tensor_parallel 2",
        ),
        (
            {"heads": 8, "kv_heads": 1, "head_dim": 2},
            (8, 1, 1),
            r"the 20 rows of a layer's queries, keys and values .* are not divisible by execution.tensor_parallel 8",
        ),
        ({}, (1, 3, 1), "model.layers 2 is not divisible by execution.pipeline_parallel 3"),
        ({}, (1, 1, 2), r"execution.expert_parallel 2 needs a model with experts \(model.moe\)"),
        (
            {"moe": {"experts": 3, "top_k": 1, "aux_loss": 0.0}},
            (1, 1, 2),
            "model.moe.experts 3 is not divisible by execution.expert_parallel 2",
        ),
        ({}, (1, 2, 1, 2), "model.layers 2 is not divisible by execution.pipeline_parallel 2 x virtual_pipeline 2"),
        ({"vision": VISION.model_dump()}, (1, 1, 1, 1, 2), r"context_parallel 2 is for rows of text; this model is shown images"),
    ],
)
def test_model_that_cannot_be_split_so_is_refused(change: dict[str, Any], layout: tuple[int, ...], message: str) -> None:
    shape = ModelConfig.model_validate({**model("llama", True).model_dump(), **change})
    with pytest.raises(ValueError, match=message):
        shape.check_layout(*layout)


def test_execution_config_with_experts_over_no_divisor_of_a_stage_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expert_parallel 4 does not divide tensor_parallel x data_parallel 6"):
        ExecutionConfig(tensor_parallel=2, data_parallel=3, expert_parallel=4)


def test_recipe_on_tokens_of_another_length_is_refused(tokens: Path, tmp_path: Path) -> None:
    shape = ModelConfig.model_validate({**model("llama", True).model_dump(), "seq_len": 16})
    recipe = Recipe(model=shape, optimizer=OPTIMIZER, precision="fp32", steps=1, batch=4, micro_batch=2, seed=1)
    with pytest.raises(ValueError, match=r"rows of 33 tokens do not fit model.seq_len 16"):
        train_language_model(recipe, tokens, "pretrain", tmp_path, EXECUTION, silent)


@pytest.mark.slow
@pytest.mark.parametrize("style", ["llama", "gpt"])
def test_compiled_layers_train_as_eager_ones(style: str) -> None:
    eager, compiled = (
        Engine(model(style, True), EXECUTION.model_copy(update={"compile": on}), seed=0, precision="fp32", optim=OPTIMIZER, total_steps=3)
        for on in (False, True)
    )
    stems = {SEGMENTS: torch.arange(26).div(9, rounding_mode="floor").expand(8, -1), STEM: torch.arange(8) % 2 * 9}
    for step in range(3):
        data = batch(24 + step)  # a new length each, and in the last texts that share a stem
        if step == 2:
            data = data._replace(extras={**data.extras, **stems})
        one, other = (engine.train_step(data, 4, masked_loss) for engine in (eager, compiled))
        assert other == pytest.approx(one, rel=1e-5)


def dropped(stage: int, step: int = 0) -> list[torch.Tensor]:
    """What the ranks of a pipeline stage drop in a step: of what tensor-parallel ranks hold alike, and of what each has its share of."""
    from megatron.core import tensor_parallel

    engine = Engine(model("llama", True), EXECUTION, seed=3, precision="fp32", dropout=0.5)
    engine.layout, engine.step = engine.layout._replace(pp=2, pp_rank=stage), step
    engine._seed_randomness()
    alike = torch.nn.functional.dropout(torch.ones(256), 0.5)
    with tensor_parallel.get_cuda_rng_tracker().fork():
        return [alike, torch.nn.functional.dropout(torch.ones(256), 0.5)]


def test_dropout_of_one_pipeline_stage_is_not_that_of_the_next() -> None:
    first, second = dropped(0), dropped(1)
    assert not any(torch.equal(one, other) for one in first for other in second)
    assert all(torch.equal(one, again) for one, again in zip(second, dropped(1), strict=True))
    assert not any(torch.equal(one, later) for one, later in zip(second, dropped(1, step=1), strict=True))


def test_dropout_of_the_first_stage_is_a_function_of_seed_and_step_alone() -> None:
    torch.manual_seed(3 * 1_000_003 + 5)
    expected = torch.nn.functional.dropout(torch.ones(256), 0.5)
    assert torch.equal(dropped(0, step=5)[0], expected)
