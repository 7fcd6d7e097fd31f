"""Packed rows whose documents are kept apart are those documents run alone, token by token and gradient by gradient; training on them resumes."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
import torch

from modelyard.execution import ExecutionConfig
from modelyard.formats.token_rows import DocumentMasks, TokenRows, write_documents
from modelyard.model.network import masked_attention
from modelyard.model.training.batch import SEGMENTS, Batch
from modelyard.model.training.recipe import Recipe, Trained, train_language_model
from modelyard.model.training.token_data import language_model_loss, sequences

from . import layout_program as program

pytestmark = pytest.mark.numerics

ONE = ExecutionConfig(threads=1)
END, BOS, SEQ_LEN = 0, 1, 32
LENGTHS = (9, 1, 2, 31, 7, 12, 70, 5, 1, 13, 40, 3, 3, 30)
"""Of documents, the end included: of the end alone, longer than two rows, and nearly all cut by a row's end or beginning."""


def write(directory: Path, masks: DocumentMasks | None, seed: int = 0) -> list[int]:
    """The artifact; the document of each token of the stream."""
    directory.mkdir(exist_ok=True)
    draw = np.random.default_rng(seed)
    texts = [np.append(draw.integers(2, program.ODD_VOCABULARY, length - 1), END) for length in LENGTHS]
    if masks == "after_end":
        texts = [np.append(BOS, text) for text in texts]
    write_documents(directory, {"train": texts, "validation": texts[::-1]}, SEQ_LEN, program.ODD_VOCABULARY, END, masks)
    return [number for number, text in enumerate(texts) for _ in text]


def alone(rows: Batch, owners: list[int], masks: DocumentMasks) -> list[list[Batch]]:
    """Of each row, what its documents are when each is a batch by itself: tokens in sight of each other, with the tokens that follow them."""
    found = []
    for number in range(len(rows.tokens)):
        begin = number * (SEQ_LEN + 1) + (masks == "at_end")  # an end belongs to what follows it
        places = [list(group) for _, group in groupby(range(SEQ_LEN), key=lambda place: owners[begin + place])]
        cuts = [slice(group[0], group[-1] + 1) for group in places]
        found.append([Batch(rows.tokens[number, None, cut], rows.labels[number, None, cut], {}) for cut in cuts])
    return found


@pytest.mark.parametrize("masks", ["at_end", "after_end"])
@pytest.mark.parametrize("case", ["llama-tied", "gpt-untied", "llama-variant"])
def test_packed_row_is_its_documents_alone_in_losses_and_gradients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str, masks: DocumentMasks
) -> None:
    monkeypatch.setattr(masked_attention, "PIECE", 8)  # a row has several
    owners = write(tmp_path, masks)
    rows = sequences(TokenRows(tmp_path, "train")[:])
    documents = alone(rows, owners, masks)
    assert max(map(len, documents)) >= 4
    assert min(map(len, documents)) == 1, "a row inside of one document"
    together, apart = (program.engine(ONE, case, "lm") for _ in range(2))

    logprobs = together.evaluate(rows, 2)
    expected = torch.stack([torch.cat([apart.evaluate(one, 1)[0] for one in row]) for row in documents])
    torch.testing.assert_close(logprobs, expected, atol=1e-5, rtol=1e-5)
    blind = together.evaluate(rows._replace(extras={}), 2)
    changed = (blind - expected).abs() > 1e-3
    assert changed.any(), "without masks they see each other"
    for row, texts in zip(changed, documents, strict=True):
        assert not row[: texts[0].tokens.shape[1]].any(), "what begins a row has nothing before it"

    steps = [
        together.train_step(rows, 1, language_model_loss),
        apart.train_step([one for row in documents for one in row], 1, language_model_loss),
    ]
    assert steps[0]["loss"] == pytest.approx(-float(expected.mean()), rel=1e-5)
    for key in ("loss", "grad_norm"):
        assert steps[0][key] == pytest.approx(steps[1][key], rel=1e-5)
    assert apart.gpt.embedding.word_embeddings.weight.main_grad.norm() > 1e-3, "gradients are still there after the step"
    for (name, ours), (_, theirs) in zip(together.gpt.named_parameters(), apart.gpt.named_parameters(), strict=True):
        assert (ours.main_grad - theirs.main_grad).norm() <= 1e-5 * theirs.main_grad.norm(), name


def test_what_stands_in_a_document_changes_no_other_of_its_row(tmp_path: Path) -> None:
    write(tmp_path, "after_end")
    rows = sequences(TokenRows(tmp_path, "train")[:2])
    engine, own = program.engine(ONE, "llama-tied", "lm"), rows.extras[SEGMENTS] == 1
    assert own.any(1).all()
    other = rows._replace(tokens=torch.where(own, rows.tokens % 50 + 3, rows.tokens))
    before, after = (engine.evaluate(batch, 2) for batch in (rows, other))
    assert torch.equal(before[~own], after[~own])
    assert not torch.equal(before[own], after[own])


class KilledError(Exception):
    """Stands for kill -9: raised between two steps."""


def train(tokens: Path, checkpoints: Path, kill_at: int | None = None) -> Trained:
    def report(done: int, total: int, metrics: object = None, unit: str = "") -> None:
        if kill_at is not None and done >= kill_at * 4 * SEQ_LEN:
            raise KilledError

    shape = program.case("llama-tied")
    recipe = Recipe(model=shape, optimizer=program.OPTIMIZER, precision="fp32", steps=6, batch=4, micro_batch=2, seed=1)
    execution = ExecutionConfig(threads=1, checkpoint_every=2, log_every=1)
    return train_language_model(recipe, tokens, "base", checkpoints, execution, report)


def test_training_on_documents_kept_apart_resumes_bit_for_bit(tmp_path: Path) -> None:
    masked, joined = tmp_path / "masked", tmp_path / "joined"
    write(masked, "at_end")
    write(joined, None)
    whole = train(masked, tmp_path / "whole")
    with pytest.raises(KilledError):
        train(masked, tmp_path / "killed", kill_at=5)
    resumed = train(masked, tmp_path / "killed")
    assert all(torch.equal(a, b) for a, b in zip(whole.engine.gpt.parameters(), resumed.engine.gpt.parameters(), strict=True))
    assert (whole.history.lines, whole.held_out) == (resumed.history.lines, resumed.held_out)
    other = train(joined, tmp_path / "other")
    assert abs(other.history.lines[0]["base/train/loss"] - whole.history.lines[0]["base/train/loss"]) > 1e-4
    loss = -whole.engine.evaluate(sequences(TokenRows(masked, "validation")[:]), 4).mean()
    assert whole.held_out.value == pytest.approx(float(loss), rel=1e-6), "held-out text is read as the training text is"
