"""A line's own models as the evals stage asks them: log-probabilities by another way, packed rows, and the scorer's batches."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from modelyard.evals import packed
from modelyard.formats.token_rows import PackedRows, TokenRows
from modelyard.model.asked import Decoding
from modelyard.model.scorer_model import ScorerModel
from modelyard.model.subject import Subject
from tests.unit.evals.small_line import EXECUTION


def test_subject_nats_per_byte_equal_a_slow_sum_over_windows(inputs: dict[str, Path]) -> None:
    subject = Subject.open("base", inputs["base"], EXECUTION, 4)
    text = "the king of the castle, é, and " * 4
    ids = [subject.encoder.document_end, *subject.encoder.ids(text)]
    limit = subject.engine.model.seq_len
    assert len(ids) > 2 * limit
    slow = 0.0
    for place in range(1, len(ids)):
        start = (place - 1) // limit * limit  # where the window of this token begins
        slow -= subject.logprobs([ids[start:place]], [[ids[place]]])[0][0]

    (found,) = subject.nats_per_byte([text])

    assert found == pytest.approx(slow / len(text.encode()), abs=1e-5)


def test_subject_generation_and_scoring_agree_on_logprobs(inputs: dict[str, Path]) -> None:
    subject = Subject.open("base", inputs["base"], EXECUTION, 4)

    sampled = subject.complete(["the king", "a", "an awful mess of"], Decoding(max_new_tokens=5, temperature=1.0, samples=1, seed=3))
    scored = subject.logprobs([s.prompt for s in sampled], [s.tokens for s in sampled])

    for one, again in zip(sampled, scored, strict=True):
        assert one.logprobs == pytest.approx(again, abs=1e-4)


def test_subject_next_token_equals_the_argmax_of_all_labels(inputs: dict[str, Path]) -> None:
    subject = Subject.open("base", inputs["base"], EXECUTION, 64)
    rows = TokenRows(inputs["tokens"], "validation")[:2]

    confidences, _ = subject.next_token(rows, 7)

    for row, confidence in zip(rows.tokens, confidences, strict=True):
        prefix = row[:7].tolist()
        candidates = range(subject.engine.model.vocab_size)
        likelihoods = subject.logprobs([prefix] * len(candidates), [[label] for label in candidates])
        assert confidence == pytest.approx(float(np.exp(max(line[0] for line in likelihoods))), abs=1e-5)


def test_packed_rows_of_documents_kept_apart_are_asked_document_by_document(inputs: dict[str, Path]) -> None:
    subject = Subject.open("base", inputs["base"], EXECUTION, 2)
    joined = TokenRows(inputs["tokens"], "validation")[:3]
    begins = np.array([[5, 11], [1, 24], [9, 10]])
    rows = PackedRows(joined.tokens, sum(np.arange(25) >= begins[:, [cut]] for cut in (0, 1)))
    whole = rows.tokens.tolist()

    texts = [[row[a : b + 1] for a, b in pairwise([0, *cuts, 24]) if a < b] for row, cuts in zip(whole, begins.tolist(), strict=True)]
    expected = [[sum(line) for line in subject.logprobs([one[:1] for one in row], [one[1:] for one in row])] for row in texts]
    assert subject.row_logprobs(rows) == pytest.approx([sum(row) / 24 for row in expected], abs=1e-5)
    assert subject.row_logprobs(rows) != pytest.approx(subject.row_logprobs(joined), abs=1e-3)
    sure, _ = subject.next_token(rows, 11)  # rows 0, 1 and 2 begin anew at 5, 1 and 10
    again = [subject.next_token(PackedRows(joined.tokens[[i], begin:]), 11 - begin)[0][0] for i, begin in enumerate((5, 1, 10))]
    assert sure == pytest.approx(again, abs=1e-5)
    ids = [[one.id for one in packed.benchmarks(given, 2, 1)] for given in (joined, rows, joined)]
    assert ids[0] == ids[2]
    assert not set(ids[0]) & set(ids[1]), "another question"


def test_judge_score_does_not_depend_on_its_batch(inputs: dict[str, Path]) -> None:
    documents = [[0, 7, 8, 9, 0], [0, 9, 0], [0, 11, 12, 13, 14, 15, 16, 0]]

    together = ScorerModel(inputs["scorer"], EXECUTION, 4).scores(documents)
    alone = [ScorerModel(inputs["scorer"], EXECUTION, 1).scores([document])[0] for document in documents]

    assert together == pytest.approx(alone, abs=1e-5)
    assert len(set(together)) == 3
