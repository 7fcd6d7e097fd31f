"""The expectations that a corpus must meet before anything is trained on it, declared as data; ``adapters.expectations`` runs them."""

from __future__ import annotations

from modelyard.formats.expectation import Expectation

KINDS = ["text", "code", "dialog", "review"]
DOMAINS = ["movie", "amazon", "nyt", "tweets"]

DOCUMENTS = [
    Expectation(name="documents_ids_unique", type="ExpectColumnValuesToBeUnique", arguments={"column": "id"}),
    Expectation(name="documents_kinds_known", type="ExpectColumnValuesToBeInSet", arguments={"column": "kind", "value_set": KINDS}),
    Expectation(
        name="documents_splits_known",
        type="ExpectColumnValuesToBeInSet",
        arguments={"column": "split", "value_set": ["train", "validation"]},
    ),
    Expectation(
        name="documents_have_both_splits",
        type="ExpectColumnDistinctValuesToContainSet",
        arguments={"column": "split", "value_set": ["train", "validation"]},
    ),
    Expectation(name="documents_have_licence", type="ExpectColumnValuesToMatchRegex", arguments={"column": "licence", "regex": r"\S"}),
    Expectation(
        name="documents_text_length",
        type="ExpectColumnValueLengthsToBeBetween",
        arguments={"column": "text", "min_value": 2, "max_value": 100_000},
    ),
    Expectation(
        name="documents_no_lost_characters", type="ExpectColumnValuesToNotMatchRegex", arguments={"column": "text", "regex": "\ufffd"}
    ),
]

RATINGS = [
    Expectation(name="ratings_ids_unique", type="ExpectColumnValuesToBeUnique", arguments={"column": "id"}),
    Expectation(name="ratings_domains_known", type="ExpectColumnValuesToBeInSet", arguments={"column": "domain", "value_set": DOMAINS}),
    Expectation(
        name="ratings_have_all_splits",
        type="ExpectColumnDistinctValuesToContainSet",
        arguments={"column": "split", "value_set": ["reward", "gold", "test"]},
    ),
    Expectation(
        name="ratings_votes_each", type="ExpectColumnValuesToBeBetween", arguments={"column": "n_votes", "min_value": 10, "mostly": 0.99}
    ),
    Expectation(name="ratings_lowest_vote", type="ExpectColumnValuesToBeBetween", arguments={"column": "min_vote", "min_value": -4}),
    Expectation(name="ratings_highest_vote", type="ExpectColumnValuesToBeBetween", arguments={"column": "max_vote", "max_value": 4}),
    Expectation(
        name="ratings_mean_vote_balanced",
        type="ExpectColumnMeanToBeBetween",
        arguments={"column": "mean_vote", "min_value": -1.5, "max_value": 1.5},
    ),
]
