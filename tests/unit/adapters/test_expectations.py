"""Declared expectations run by the real Great Expectations."""

import pandas as pd
import pytest

from modelyard.adapters.expectations import validate
from modelyard.data import suite
from modelyard.formats.expectation import Expectation, ExpectationError

GOOD = pd.DataFrame(
    {
        "id": ["a", "b"],
        "source": "s",
        "kind": ["text", "code"],
        "language": "en",
        "licence": "MIT",
        "split": ["train", "validation"],
        "text": "words",
    }
)


def test_validate_good_documents_pass_the_declared_suite():
    result = validate("documents", GOOD, suite.DOCUMENTS)
    assert result.success
    assert [r.name for r in result.results] == [e.name for e in suite.DOCUMENTS]
    assert result.require() is result


def test_validate_bad_documents_fail_by_the_expectations_names():
    bad = GOOD.assign(id="same", split="train", licence="", text=["ok text", "lost \ufffd"])
    result = validate("documents", bad, suite.DOCUMENTS)
    failed = {r.name for r in result.results if not r.success}
    assert failed == {"documents_ids_unique", "documents_have_both_splits", "documents_have_licence", "documents_no_lost_characters"}
    with pytest.raises(ExpectationError, match=r"suite documents failed: documents_ids_unique \(2 of 2 unexpected, for example 'same'\)"):
        result.require()


def test_validate_missing_column_fails_and_unknown_expectation_is_refused():
    missing = Expectation(name="metric_there", type="ExpectColumnValuesToBeBetween", arguments={"column": "gone", "min_value": 0})
    [result] = validate("metrics", pd.DataFrame({"value": [1.0]}), [missing]).results
    assert not result.success
    assert "gone" in result.detail
    with pytest.raises(ValueError, match="expectation odd: Great Expectations has no ExpectNothing"):
        validate("metrics", pd.DataFrame({"value": [1.0]}), [Expectation(name="odd", type="ExpectNothing", arguments={})])


def test_validate_page_is_of_the_outcome_alone_and_shows_it_unchanged():
    found = {"value": [0.1, 2.0, 3.5], "id": ["c6c0b526-6464-4137-b561-1e50b72dfb61", "20261122T115127.175641Z", "c"]}
    declared = [
        Expectation(name="few", type="ExpectColumnSumToBeBetween", arguments={"column": "value", "max_value": 1}),
        Expectation(name="known", type="ExpectColumnValuesToBeInSet", arguments={"column": "id", "value_set": ["c"]}),
    ]
    one, other = (validate("found", pd.DataFrame(found), declared).page for _ in range(2))
    assert one == other
    assert all(shown in one for shown in ("5.6", *found["id"][:2]))
