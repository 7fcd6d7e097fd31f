"""Runs declared expectations with Great Expectations: ephemeral context, no telemetry, no files, results as our own values.

A ``modelyard.formats.expectation.Validate``. What failed is data in the result; whether that stops anything is the caller's
decision (``require``).
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from typing import Any

from modelyard.config import complaint
from modelyard.formats.expectation import Expectation, ExpectationResult, SuiteResult

_LOGO_TIME = re.compile(r"\?d=\d{8}T\d{6}\.\d{6}Z")
_ELEMENT_ID = re.compile(r"(?<=-body-)[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def validate(suite: str, frame: Any, expectations: Sequence[Expectation]) -> SuiteResult:
    """Check a pandas DataFrame. Raises ValueError when an expectation's type or arguments are not Great Expectations'."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    import great_expectations as gx

    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    batch = (
        context.data_sources.add_pandas(suite)
        .add_dataframe_asset(suite)
        .add_batch_definition_whole_dataframe(suite)
        .get_batch({"dataframe": frame})
    )
    declared = gx.ExpectationSuite(name=suite)
    for expectation in expectations:
        declared.add_expectation(_build(gx, expectation))
    outcome = batch.validate(declared)
    by_name = {result.expectation_config.meta["name"]: result for result in outcome.results}
    results = [_result(expectation.name, by_name[expectation.name]) for expectation in expectations]
    return SuiteResult(suite=suite, results=results, page=_page(outcome))


def _page(outcome: Any) -> str:
    """The validation as a page of Great Expectations' Data Docs, the same bytes for the same outcome: it lies in an artifact, whose manifest has the
    time. Its words are in it; its style sheets come from the network."""
    import numpy
    from great_expectations.render.renderer import ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaPageView

    for result in outcome.results:  # its own renderer refuses the numpy numbers that its metrics give
        observed = (result.result or {}).get("observed_value")
        if isinstance(observed, numpy.generic):
            result.result["observed_value"] = observed.item()
    outcome.meta.get("batch_markers", {}).pop("ge_load_time", None)
    page = _LOGO_TIME.sub("", str(DefaultJinjaPageView().render(ValidationResultsPageRenderer().render(outcome))))
    numbers: dict[str, str] = {}
    return _ELEMENT_ID.sub(lambda found: numbers.setdefault(found.group(), str(len(numbers))), page)


def _build(gx: Any, expectation: Expectation) -> Any:
    kind = getattr(gx.expectations, expectation.type, None)
    if kind is None:
        raise ValueError(f"expectation {expectation.name}: Great Expectations has no {expectation.type}")
    try:
        return kind(**expectation.arguments, meta={"name": expectation.name})
    except Exception as error:
        raise ValueError(f"expectation {expectation.name}: {complaint(error)}") from None


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
