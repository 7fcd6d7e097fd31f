"""What must hold of a table of metrics before any gate reads a number of it: two suites of Great
Expectations.

The gates check the metrics they use one by one; the suites check all of them, so a metric that only the card
shows is not nonsense either. Which metrics the gates need follows from the release's config, which are shares
from the results. Left out: expectations against earlier releases, which is the regression gate's work.
"""

from __future__ import annotations

import pandas as pd

from modelyard.formats.expectation import SuiteResult, Validate
from modelyard.formats.results import Results
from modelyard.release.gates.measured import before
from modelyard.release.limits import ReleaseConfig

COLUMNS = ("value", "low", "high", "n")


def needed(config: ReleaseConfig, before: str = "sft") -> list[str]:
    """The metrics that the gates read by name; ``before`` is the model that the release is held against."""
    compared = ("win_rate_over_sft", "kl_to_sft") if not config.set_aside.preference else ()
    keys = [f"evals/policy/{config.preference}/{key}" for key in compared]
    keys += [f"evals/{model}/{name}/calibration_error" for model in ("base", "policy") for name in config.calibration]
    for name, own in config.limits.items():
        keys += [f"evals/policy/{name}/{key}" for key in own.limited if own.gated]
        keys += [f"evals/{before}/{name}/{key}" for key in (*own.max_increase, *own.max_decrease) if own.gated]
    return sorted(set(keys))


def check(results: Results, config: ReleaseConfig, validate: Validate) -> list[SuiteResult]:
    """Both suites on the metrics."""
    rows = [{"key": key, **estimate._asdict()} for key, estimate in results.metrics.items()]
    table = pd.DataFrame(rows, columns=["key", *COLUMNS])
    shares = table[table["key"].isin(results.shares)]
    whole = validate("results/metrics", table, {"needed": needed(config, before(results))})
    return [whole, validate("results/shares", shares)]
