"""The mixture's arithmetic and the packed stream, on hand-worked cases."""

import numpy as np
import pytest

from modelyard.data.tokens import packing
from modelyard.data.tokens.packing import Share


def _documents(*sizes):
    return [np.full(size, 10 + n, np.uint16) for n, size in enumerate(sizes)]


def test_plan_shares_the_budget_and_caps_epochs():
    mixture = {"review": Share(weight=3, max_epochs=2), "text": Share(weight=1, max_epochs=1), "code": Share(weight=4, max_epochs=1)}
    planned = packing.plan({"review": 100, "text": 1000, "dialog": 50}, mixture, 800)
    assert planned == {"review": (200, 2.0), "text": (200, 0.2)}


def test_select_repeats_whole_epochs_before_a_document_returns():
    chosen = packing.select(_documents(1, 1, 1, 1), 16, np.random.default_rng(0))
    names = [int(document[0]) for document in chosen]
    assert len(names) == 8
    assert sorted(names[:4]) == sorted(names[4:]) == [10, 11, 12, 13]


def test_pack_precedes_each_document_with_end_of_text_and_drops_the_rest():
    assert packing.pack(_documents(2, 3, 1), 3).tolist() == [[0, 10, 10, 0], [11, 11, 11, 0]]


@pytest.mark.parametrize("sizes", [(), (1,)])
def test_pack_too_little_gives_no_row(sizes):
    assert packing.pack(_documents(*sizes), 3).shape == (0, 4)
