"""What must hold of a table of metrics before any gate reads a number of it: declared here, run by Great Expectations.

The gates check the metrics they use one by one; the suites check all of them, so a metric that only the card shows is
not nonsense either. Which metrics the gates need follows from the release's config, which are shares from the results.
Left out: expectations against earlier releases, which is the regression gate's work.
"""

from __future__ import annotations

import pandas as pd

from modelyard.formats.expectation import Expectation, SuiteResult, Validate
from modelyard.formats.results import Results
from modelyard.release.limits import ReleaseConfig

COLUMNS = ("value", "low", "high", "n")
METRICS = [
    Expectation(name="metric_keys_unique", type="ExpectColumnValuesToBeUnique", arguments={"column": "key"}),
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


def needed(config: ReleaseConfig) -> list[str]:
    """The metrics that the gates read by name."""
    keys = [f"evals/policy/{config.preference}/{key}" for key in ("win_rate_over_sft", "kl_to_sft")]
    keys += [f"evals/{model}/{name}/calibration_error" for model in ("base", "policy") for name in config.calibration]
    for name, own in config.limits.items():
        keys += [f"evals/policy/{name}/{key}" for key in (*own.max, *own.min, *own.max_increase) if own.gated]
        keys += [f"evals/sft/{name}/{key}" for key in own.max_increase if own.gated]
    return sorted(set(keys))


def check(results: Results, config: ReleaseConfig, validate: Validate) -> list[SuiteResult]:
    """Both suites on the metrics."""
    rows = [{"key": key, **estimate._asdict()} for key, estimate in results.metrics.items()]
    table = pd.DataFrame(rows, columns=["key", *COLUMNS])
    there = Expectation(
        name="metrics_of_the_gates_there",
        type="ExpectColumnDistinctValuesToContainSet",
        arguments={"column": "key", "value_set": needed(config)},
    )
    shares = table[table["key"].isin(results.shares)]
    return [validate("metrics", table, [there, *METRICS]), validate("shares", shares, SHARES)]
