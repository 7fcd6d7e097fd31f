"""Suites of expectations, judged by the real Great Expectations."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from modelyard.adapters.expectations import InvalidSuiteError, check, validate
from modelyard.formats.expectation import ExpectationError, read_suite, suite_file, suites_version

SUITES = sorted(f"{file.parent.name}/{file.stem}" for file in suite_file("corpus/documents").parents[1].glob("*/*.json"))
GOOD = pd.DataFrame(
    {
        "id": ["a", "b"],
        "source": "s",
        "kind": ["text", "code"],
        "language": "en",
        "licence": "MIT",
        "split": ["train", "validation"],
        "place": "file: line 1",
    }
)
LIMITS = {"min_documents": 2}


def declared(*expectations: dict) -> dict:
    """A suite with these expectations."""
    return {"name": "found", "expectations": list(expectations)}


@pytest.mark.parametrize("suite", SUITES)
def test_suite_is_great_expectations_own_json(suite: str) -> None:
    """Read and written by Great Expectations itself it is the same suite."""
    import great_expectations as gx

    gx.get_context(mode="ephemeral")
    written = read_suite(suite)
    again = json.loads(json.dumps(gx.ExpectationSuite(**written).to_json_dict()))
    known = [{key: value for key, value in entry.items() if key in ("type", "kwargs", "meta")} for entry in again["expectations"]]
    assert known == [{key: entry[key] for key in ("type", "kwargs", "meta")} for entry in written["expectations"]]


def test_validate_good_documents_pass_the_declared_suite() -> None:
    result = validate("corpus/documents", GOOD, LIMITS)
    assert result.success
    assert [r.name for r in result.results] == [entry["meta"]["name"] for entry in read_suite("corpus/documents")["expectations"]]
    assert result.require() is result


def test_validate_bad_documents_fail_by_the_expectations_names() -> None:
    bad = GOOD.assign(id="same", split="elsewhere", licence="", place=["file: line 1", ""])
    result = validate("corpus/documents", bad, {"min_documents": 3})
    failed = {r.name for r in result.results if not r.success}
    assert failed == {
        "documents_ids_unique",
        "documents_splits_known",
        "documents_have_licence",
        "documents_have_place",
        "documents_enough",
    }
    with pytest.raises(
        ExpectationError,
        match=r"suite documents failed: .*documents_ids_unique \(2 of 2 unexpected, for example 'same'\)",
    ):
        result.require()


def test_validate_takes_a_limit_from_its_parameters_and_names_the_one_that_is_missing() -> None:
    shares = pd.DataFrame({"source": ["a", "b"], "share": [0.7, 0.3]})
    outcomes = [validate("corpus/shares", shares, {"max_source_share": limit}).success for limit in (0.6, 0.8)]
    assert outcomes == [False, True]
    with pytest.raises(ValueError, match=r"expectations/corpus/shares.json: .*max_source_share") as error:
        validate("corpus/shares", shares)
    assert "\n" not in str(error.value)


def test_check_missing_column_fails_and_what_is_no_expectation_is_refused_by_its_name() -> None:
    frame = pd.DataFrame({"value": [1.0]})
    between = {
        "type": "expect_column_values_to_be_between",
        "kwargs": {"column": "gone", "min_value": 0},
        "meta": {"name": "there"},
    }
    [result] = check(declared(between), frame).results
    assert not result.success
    assert "gone" in result.detail
    with pytest.raises(InvalidSuiteError, match="expectation odd: expect_nothing not found"):
        check(declared({"type": "expect_nothing", "kwargs": {}, "meta": {"name": "odd"}}), frame)
    with pytest.raises(InvalidSuiteError, match=r"expectation there: .*colum"):
        check(declared({**between, "kwargs": {"colum": "value", "min_value": 0}}), frame)
    with pytest.raises(InvalidSuiteError, match=r"an expectation has no meta\.name"):
        check(declared({key: value for key, value in between.items() if key != "meta"}), frame)


def test_suites_version_changes_with_what_a_suite_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "shares.json"
    monkeypatch.setattr("modelyard.formats.expectation.suite_file", lambda suite: file)
    versions = []
    for limit in (1, 2, 1):
        file.write_text(json.dumps(declared({"type": "expect_column_max_to_be_between", "kwargs": {"column": "a", "max_value": limit}})))
        versions.append(suites_version("corpus/shares"))
    assert versions[0] == versions[2] != versions[1]


def test_check_page_is_of_the_outcome_alone_and_shows_it_unchanged() -> None:
    found = {
        "value": [0.1, 2.0, 3.5],
        "id": ["c6c0b526-6464-4137-b561-1e50b72dfb61", "20261122T115127.175641Z", "c"],
    }
    suite = declared(
        {
            "type": "expect_column_sum_to_be_between",
            "kwargs": {"column": "value", "max_value": 1},
            "meta": {"name": "few"},
        },
        {
            "type": "expect_column_values_to_be_in_set",
            "kwargs": {"column": "id", "value_set": ["c"]},
            "meta": {"name": "known"},
        },
    )
    one, other = (check(suite, pd.DataFrame(found)).page for _ in range(2))
    assert one == other
    assert all(shown in one for shown in ("5.6", *found["id"][:2]))


def test_check_page_shows_values_as_text_and_fetches_nothing() -> None:
    hostile = ["<script>alert(1)</script>", "<img src=//x.example/p>", "a\u202ebc\x1b[31m"]
    suite = declared(
        {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "id", "value_set": ["c"]}, "meta": {"name": "known"}}
    )

    result = check(suite, pd.DataFrame({"id": hostile}))

    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in result.page
    assert "a\\u202ebc\\u001b[31m" in result.page
    assert not re.search(r"<(script|link|img|iframe)\b|url\(http|@import", result.page, re.IGNORECASE)
    assert result.page.index("Content-Security-Policy") < result.page.index("<style")
    assert hostile[0] in result.results[0].detail, "the result itself is as it was"
