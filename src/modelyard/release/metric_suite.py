"""What must hold of a table of metrics before any gate reads a number of it: declared here, run by Great Expectations.

The gates check the metrics they use one by one; the suites check all of them, so a metric that only the card shows is not nonsense either.
Left out: expectations against earlier releases, which is the regression gate's work.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from modelyard.formats.expectation import Expectation, SuiteResult, Validate
from modelyard.stats.estimate import Estimate

NEEDED = [
    "evals/base/calibration_error",
    "evals/base/validation_loss",
    "evals/policy/calibration_error",
    "evals/policy/kl_to_sft",
    "evals/policy/toxicity",
    "evals/policy/win_rate_over_sft",
    "evals/sft/toxicity",
]
RATES = (
    r"/(?:\w+_accuracy|\w+_pass_at_1|toxicity|repetition|calibration_error|win_rate_over_\w+|over_refusal|unsafe_answered|jailbroken|disallowed"
    r"|conduct/\w+/\w+)$"
)
"""Metrics that are shares."""
COLUMNS = ("value", "low", "high", "n")

METRICS = [
    Expectation(name="metric_keys_unique", type="ExpectColumnValuesToBeUnique", arguments={"column": "key"}),
    Expectation(
        name="metrics_of_the_gates_there", type="ExpectColumnDistinctValuesToContainSet", arguments={"column": "key", "value_set": NEEDED}
    ),
    *(Expectation(name=f"metric_{column}_there", type="ExpectColumnValuesToNotBeNull", arguments={"column": column}) for column in COLUMNS),
    Expectation(
        name="metric_not_below_its_interval",
        type="ExpectColumnPairValuesAToBeGreaterThanB",
        arguments={"column_A": "value", "column_B": "low", "or_equal": True},
    ),
    Expectation(
        name="metric_not_above_its_interval",
        type="ExpectColumnPairValuesAToBeGreaterThanB",
        arguments={"column_A": "high", "column_B": "value", "or_equal": True},
    ),
    Expectation(name="metric_has_items", type="ExpectColumnValuesToBeBetween", arguments={"column": "n", "min_value": 1}),
]
SHARES = [
    Expectation(
        name="share_between_0_and_1", type="ExpectColumnValuesToBeBetween", arguments={"column": "value", "min_value": 0, "max_value": 1}
    )
]


def check(metrics: Mapping[str, Estimate], validate: Validate) -> list[SuiteResult]:
    """Both suites on the metrics (key -> estimate)."""
    table = pd.DataFrame([{"key": key, **estimate._asdict()} for key, estimate in metrics.items()], columns=["key", *COLUMNS])
    shares = table[table["key"].str.contains(RATES, regex=True)]
    return [validate("metrics", table, METRICS), validate("shares", shares, SHARES)]
