"""The mixture's arithmetic and the choice of documents, on hand-worked cases."""

import numpy as np

from modelyard.data.tokens.packing import Share, plan, select


def test_plan_weights_are_the_shares_and_what_a_cap_leaves_goes_to_the_others():
    mixture = {"review": Share(weight=3, max_epochs=2), "text": Share(weight=1, max_epochs=1), "code": Share(weight=4, max_epochs=1)}
    assert plan({"review": 1000, "text": 1000, "dialog": 50}, mixture, 800) == {"review": (600, 0.6), "text": (200, 0.2)}
    assert plan({"review": 100, "text": 1000}, mixture, 800) == {"review": (200, 2.0), "text": (600, 0.6)}
    assert plan({"review": 100, "text": 100}, mixture, 800) == {"review": (200, 2.0), "text": (100, 1.0)}, "less than the budget"


def test_plan_temperature_evens_out_natural_sizes():
    share = Share(weight=1.0, max_epochs=4.0)
    available = {"web": 9000, "books": 1000, "code": 100}

    def tokens(names, budget, temperature):
        return {name: entry.tokens for name, entry in plan(available, dict.fromkeys(names, share), budget, temperature).items()}

    assert tokens(("web", "books"), 10_000, 1.0) == {"web": 9000, "books": 1000}
    assert tokens(("web", "books"), 4000, 2.0) == {"web": 3000, "books": 1000}, "sqrt(9) to sqrt(1)"
    assert tokens(("web", "code"), 10_000, 1e9) == {"web": 9600, "code": 400}


def test_select_repeats_whole_epochs_before_a_document_returns():
    chosen = select(np.array([2, 2, 2, 2], np.int32), 15, np.random.default_rng(0)).tolist()
    assert len(chosen) == 8, "as many as reach the tokens"
    assert sorted(chosen[:4]) == sorted(chosen[4:]) == [0, 1, 2, 3]
    assert select(np.array([5, 5], np.int32), 6, np.random.default_rng(0)).size == 2
    assert select(np.array([5, 5], np.int32), 0, np.random.default_rng(0)).size == 0
