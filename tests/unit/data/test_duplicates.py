"""Planted exact, near and non-duplicates against a brute-force reference."""

import random

import numpy as np
import pytest
from pydantic import ValidationError

from modelyard.data.filters import duplicates
from modelyard.data.filters.duplicates import DuplicatesConfig

CONFIG = DuplicatesConfig(permutations=128, bands=32, shingle=3, threshold=0.7)
WORDS = [f"word{n}" for n in range(800)]


def _planted(seed):
    """40 originals, then of each an exact copy (other case and spaces), a near copy (one word of 60 changed) and half a copy."""
    rng = random.Random(seed)
    originals = [" ".join(rng.choices(WORDS, k=60)) for _ in range(40)]
    exact = ["  ".join(text.upper().split()) for text in originals]
    near = []
    for text in originals:
        words = text.split()
        words[rng.randrange(60)] = "changed"
        near.append(" ".join(words))
    half = [" ".join([*text.split()[:30], *rng.choices(WORDS, k=30)]) for text in originals]
    return originals, exact, near, half


def _find(texts):
    return duplicates.find([duplicates.exact_key(t) for t in texts], duplicates.signatures(texts, CONFIG), CONFIG)


def test_find_planted_copies_are_found_and_half_copies_stay():
    originals, exact, near, half = _planted(0)
    found = _find([*originals, *exact, *near, *half])
    assert found[:40] == [None] * 40
    assert [(copy.original, copy.exact) for copy in found[40:80]] == [(n, True) for n in range(40)]
    assert [(copy.original, copy.exact) for copy in found[80:120]] == [(n, False) for n in range(40)]
    assert found[120:] == [None] * 40


def test_find_agrees_with_brute_force_over_signatures():
    texts = [text for group in _planted(1) for text in group]
    signature = duplicates.signatures(texts, CONFIG)
    kept, expected = [], []
    for index, text in enumerate(texts):
        key = " ".join(text.casefold().split())
        same = [other for other in kept if " ".join(texts[other].casefold().split()) == key]
        near = [other for other in kept if np.mean(signature[other] == signature[index]) >= CONFIG.threshold]
        expected.append(bool(same or near))
        if not expected[-1]:
            kept.append(index)
    assert [copy is not None for copy in _find(texts)] == expected


def test_find_the_first_in_order_stays():
    text = "a film of rare beauty and of no small patience from its director"
    assert [copy is None for copy in _find([text, text + "!", text])] == [True, False, False]


def test_signatures_links_and_mentions_do_not_count():
    first, second = duplicates.signatures(
        ["@a so good to see you all here http://x.y/1", "@b so good to see you all here http://z.w/2"], CONFIG
    )
    assert np.array_equal(first, second)


def test_signatures_of_nothing_but_links_mentions_or_signs_differ():
    texts = [
        "@ann @bob",
        "@cleo",
        "https://example.org/one",
        "http://other.example/page",
        "\U0001f600\U0001f680",
        "\u2764 \U0001f3c0 \U0001f333",
        "?!",
    ]
    assert _find([*texts, "@cleo "])[:-1] == [None] * len(texts)
    assert _find([*texts, "@cleo "])[-1].original == 1


def test_config_bands_that_do_not_divide_are_refused():
    with pytest.raises(ValidationError, match="multiple of bands"):
        DuplicatesConfig(permutations=128, bands=30, shingle=3, threshold=0.7)
