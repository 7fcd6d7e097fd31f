"""Runs suites of expectations with Great Expectations: ephemeral context, no telemetry, no files, results as
our own values.

A ``modelyard.formats.expectation.Validate``; a suite is Great Expectations' own JSON and is judged as it
stands there. What failed is data in the result; whether that stops anything is the caller's decision
(``require``).
"""

from __future__ import annotations

import html
import logging
import os
import re
from collections.abc import Mapping
from typing import Any

from modelyard.formats.expectation import ExpectationResult, SuiteResult, read_suite, suite_file
from modelyard.page_style import NOTHING_REMOTE
from modelyard.printable import printable

_REMOTE = re.compile(r"<script\b.*?</script>|<link\b[^>]*>|<img\b[^>]*>", re.DOTALL | re.IGNORECASE)
_ELEMENT_ID = re.compile(r"(?<=-body-)[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def validate(suite: str, frame: Any, parameters: Mapping[str, Any] = {}) -> SuiteResult:
    """Check a pandas DataFrame against ``configs/expectations/{suite}.json`` with its ``parameters``.

    Raises ValueError naming the file: it is missing, no suite of Great Expectations, or wants a parameter
    that is not given.
    """
    try:
        return check(read_suite(suite), frame, parameters)
    except InvalidSuiteError as error:
        raise ValueError(f"{suite_file(suite)}: {error}") from None


class InvalidSuiteError(ValueError):
    """A suite that Great Expectations cannot judge; the message names the expectation."""


def check(suite: Mapping[str, Any], frame: Any, parameters: Mapping[str, Any] = {}) -> SuiteResult:
    """Check a pandas DataFrame against a suite as its JSON has it. Raises InvalidSuiteError."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    import great_expectations as gx
    from great_expectations.exceptions import SuiteParameterError

    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    name = str(suite["name"])
    batch = (
        context.data_sources.add_pandas(name)
        .add_dataframe_asset(name)
        .add_batch_definition_whole_dataframe(name)
        .get_batch({"dataframe": frame})
    )
    declared = gx.ExpectationSuite(name=name, expectations=[_expectation(entry) for entry in suite["expectations"]])
    try:
        outcome = batch.validate(declared, expectation_parameters=dict(parameters))
    except SuiteParameterError as error:
        raise InvalidSuiteError(" ".join(str(error).split())) from None
    by_name = {result.expectation_config.meta["name"]: result for result in outcome.results}
    results = [_result(entry["meta"]["name"], by_name[entry["meta"]["name"]]) for entry in suite["expectations"]]
    return SuiteResult(suite=name, results=results, page=_page(outcome))


def _expectation(entry: Any) -> Any:
    """One expectation of a suite; a suite that is made of dicts leaves out, with a line of log, those that it
    does not know.
    """
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    name = str(entry.get("meta", {}).get("name", "")) if isinstance(entry, dict) else ""
    if not name:
        raise InvalidSuiteError("an expectation has no meta.name, by which its failure is known")
    try:
        return ExpectationConfiguration(**entry).to_domain_obj()
    except Exception as error:
        raise InvalidSuiteError(f"expectation {name}: {' '.join(str(error).split())}") from None


def _page(outcome: Any) -> str:
    """The validation as a page of Great Expectations' Data Docs, the same bytes for the same outcome: it lies in an artifact, whose manifest has the
    time. Values of the data, which it would show as markup, are escaped; what it would fetch and all of its scripts are left out.
    """
    import numpy
    from great_expectations.render.renderer import ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaPageView

    for result in outcome.results:  # its own renderer refuses the numpy numbers that its metrics give
        observed = (result.result or {}).get("observed_value")
        if isinstance(observed, numpy.generic):
            result.result["observed_value"] = observed.item()
        result.result, result.exception_info = _escaped(result.result), _escaped(result.exception_info)
    outcome.meta.get("batch_markers", {}).pop("ge_load_time", None)
    page = _REMOTE.sub("", str(DefaultJinjaPageView().render(ValidationResultsPageRenderer().render(outcome))))
    page = page.replace("<head>", f"<head>{NOTHING_REMOTE}", 1)
    numbers: dict[str, str] = {}
    return _ELEMENT_ID.sub(lambda found: numbers.setdefault(found.group(), str(len(numbers))), page)


def _escaped(value: Any) -> Any:
    """A tree of JSON with its texts as HTML."""
    if isinstance(value, dict):
        return {key: _escaped(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_escaped(part) for part in value]
    return html.escape(printable(value)) if isinstance(value, str) else value


def _result(name: str, outcome: Any) -> ExpectationResult:
    exception = outcome.exception_info or {}
    messages = [
        str(info.get("exception_message")) for info in exception.values() if isinstance(info, dict) and info.get("raised_exception")
    ]
    if messages:
        return ExpectationResult(name=name, success=False, detail=messages[0].splitlines()[0])
    found = outcome.result or {}
    if found.get("observed_value") is not None:
        detail = f"observed {found['observed_value']}"
    elif "unexpected_count" not in found:
        detail = "holds" if outcome.success else f"observed {found.get('details', {}).get('value_counts', 'otherwise')}"
    else:
        detail = f"{found.get('unexpected_count', 0)} of {found.get('element_count', 0)} unexpected"
        if partial := found.get("partial_unexpected_list"):
            detail += f", for example {str(partial[0])[:80]!r}"
    return ExpectationResult(name=name, success=bool(outcome.success), detail=" ".join(detail.split()))
