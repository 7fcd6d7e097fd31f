"""What a batch may be: labels that are not asked for, and several batches of different widths in one step."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from modelyard.execution import ExecutionConfig
from modelyard.model.hf.weights import read_checkpoint
from modelyard.model.training.batch import ASKED_AT_ONCE, UNLABELLED, Batch, labelled, segmented
from modelyard.model.training.engine import Engine

from . import layout_program as program

ONE = ExecutionConfig(threads=1)


def masked(batch: Batch) -> Batch:
    """The same batch with labels only where its mask is."""
    return batch._replace(labels=batch.labels.masked_fill(~batch.extras["mask"], UNLABELLED))


def padded(batch: Batch, width: int) -> Batch:
    fill = (0, width - batch.tokens.shape[1])
    extras = {"mask": torch.nn.functional.pad(batch.extras["mask"], fill)}
    return Batch(torch.nn.functional.pad(batch.tokens, fill), torch.nn.functional.pad(batch.labels, fill), extras)


def assert_same_step(one: Engine, other: Engine, first: Batch | list[Batch], second: Batch | list[Batch], root: Path) -> None:
    """Loss, gradient norm and every gradient (the first moments after one step) of the two engines on the two forms of a batch."""
    ours, theirs = one.train_step(first, 2, program.masked_loss), other.train_step(second, 2, program.masked_loss)
    for key in ("loss", "grad_norm", "mean"):
        assert ours[key] == pytest.approx(theirs[key], rel=1e-5)
    one.save(root / "one")
    other.save(root / "other")
    left, right = read_checkpoint(root / "one"), read_checkpoint(root / "other")
    for name in (name for name in left if name.startswith("optimizer.state.exp_avg.")):
        assert (left[name] - right[name]).norm() <= 1e-5 * right[name].norm(), name


@pytest.mark.parametrize("case", ["llama-tied", "gpt-untied"])
def test_engine_labels_not_asked_for_change_nothing_else(case: str, tmp_path: Path) -> None:
    one, other = (program.engine(ONE, case, "lm") for _ in range(2))
    data = program.batch()
    keep = data.extras["mask"]
    everything, asked = one.evaluate(data, 2), one.evaluate(masked(data), 2)
    torch.testing.assert_close(asked[keep], everything[keep])
    assert (asked[~keep] == 0).all()
    assert (everything[~keep] != 0).all()
    assert_same_step(one, other, masked(data), data, tmp_path)


@pytest.mark.parametrize("asked", [0, 1, ASKED_AT_ONCE, ASKED_AT_ONCE + 1, 200, 255])
def test_labels_are_asked_for_in_few_numbers_each_once(asked: int) -> None:
    labels = torch.full((8, 32), UNLABELLED)
    chosen = torch.randperm(256, generator=torch.Generator().manual_seed(asked))[:asked]
    labels.view(-1)[chosen] = 5
    places = labelled(labels)
    assert isinstance(places, torch.Tensor)
    assert len(places) % ASKED_AT_ONCE == 0
    assert len(places) - asked < ASKED_AT_ONCE
    assert len(set(places.tolist())) == len(places)
    assert (labels.t().reshape(-1)[places] == 5).sum() == asked
    assert labelled(labels.masked_fill(labels < 0, 1)) == slice(None)


def test_engine_rows_without_any_label_add_nothing(tmp_path: Path) -> None:
    one, other = (program.engine(ONE, "llama-tied", "lm") for _ in range(2))
    data = program.batch()
    first = data.rows(0, 4)
    empty = data.rows(4, 8)._replace(extras={"mask": torch.zeros(4, 25, dtype=torch.bool)})
    assert_same_step(one, other, [first, masked(empty)], first, tmp_path)


@pytest.mark.parametrize("head", ["lm", "scalar"])
def test_engine_batches_of_two_widths_equal_one_padded_batch(head: str, tmp_path: Path) -> None:
    one, other = (program.engine(ONE, "llama-tied", head) for _ in range(2))
    wide, narrow = program.batch(25), program.batch(11).rows(0, 4)
    extended = padded(narrow, 25)
    joined = Batch(*(torch.cat(pair) for pair in zip(wide[:2], extended[:2], strict=True)), {
        "mask": torch.cat([wide.extras["mask"], extended.extras["mask"]])
    })  # fmt: skip
    assert_same_step(one, other, [wide, narrow], joined, tmp_path)


def test_engine_batch_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="a batch of 3 does not divide by data_parallel 1 x micro_batch 2"):
        program.engine(ONE, "llama-tied", "lm").train_step([program.batch(), program.batch().rows(0, 3)], 2, program.masked_loss)


@pytest.mark.parametrize("window", [None, 2])
@pytest.mark.parametrize("stems", [None, [0, 3, 1]])
def test_segmented_against_loops(stems: list[int] | None, window: int | None) -> None:
    rows = [[1, 1, 2, 2, 2, 3, -1, -1], [0, 0, 0, 1, 2, 2, 2, -1], [0, 1, 1, 1, 1, 2, 3, 3]]
    positions, seen = segmented(torch.tensor(rows), None if stems is None else torch.tensor(stems), window)
    assert seen.shape[1] == (1 if window is None else 2)
    for i, row in enumerate(rows):
        stem = 0 if stems is None else stems[i]
        for place, text in enumerate(row):
            before = [p for p in range(place) if row[p] == text]
            after_stem = stem if place >= stem else 0
            assert positions[i, place] == (0 if text < 0 else len(before) + after_stem), (i, place)
            visible = {*before, place, *range(min(stem, place))}
            assert set(seen[i, 0, place].nonzero()[:, 0].tolist()) == visible, (i, place)
            if window is not None and text >= 0:
                near = {p for p in visible if positions[i, place] - positions[i, p] < window}
                assert set(seen[i, 1, place].nonzero()[:, 0].tolist()) == near, (i, place)


def test_a_batch_of_fewer_rows_than_asked_at_once_is_computed_as_it_is() -> None:
    engine = Engine(program.model("llama", True), ONE, seed=3, precision="fp32")
    tokens, widths = torch.arange(1, 31).view(3, 10), list[int]()
    engine.gpt.embedding.word_embeddings.register_forward_pre_hook(lambda _, given: widths.append(given[0].shape[0]))
    together = engine.evaluate(Batch(tokens[:, :-1], tokens[:, 1:], {}), 64)
    one = engine.evaluate(Batch(tokens[:1, :-1], tokens[:1, 1:], {}), 64)
    assert widths == [3, 1]
    torch.testing.assert_close(together[:1], one, rtol=1e-5, atol=1e-5)
