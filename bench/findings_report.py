"""What ``bench.findings`` makes of its scores: each claim of GPT-Fathom (arXiv:2309.16583) as a difference over seeds, a table and a picture.

A claim is paired by seed: the difference is taken within a seed, whose models share base, data and items, and its interval is Student's over
the seeds. Every claim stands alone, uncorrected for there being nine. Left out: variance over items, which are the same for all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.table import Table
from scipy.stats import t as student

from modelyard.stats.estimate import Estimate

METRICS = ("pass_at_1", "pass_at_10", "pass_at_100")
Scores = Mapping[str, float]
"""``{run}/{model}/{metric}`` of one seed -> share of the items passed."""


class Claim(NamedTuple):
    """What a finding says of a difference."""

    finding: str
    says: str
    difference: Callable[[Scores], float]
    sign: int
    """Of the difference, were the finding true."""


def between(after: str, before: str) -> Callable[[Scores], float]:
    """The difference of two scores."""
    return lambda scores: scores[after] - scores[before]


def gained_more(scores: Scores) -> float:
    """What SFT adds to the weak base's pass@1 beyond what it adds to the strong one's."""
    return between("weak/sft/pass_at_1", "weak/base/pass_at_1")(scores) - between("ppo/sft/pass_at_1", "ppo/base/pass_at_1")(scores)


def raised(finding: str, name: str, after: str, before: str) -> list[Claim]:
    """A stage that raises pass@1 and lowers pass@100."""
    return [
        Claim(finding, f"{name} raises pass@1", between(f"{after}/pass_at_1", f"{before}/pass_at_1"), 1),
        Claim(finding, f"{name} lowers pass@100", between(f"{after}/pass_at_100", f"{before}/pass_at_100"), -1),
    ]


ALIGNMENT, WEAK, CODE = "alignment turns many tries into one", "SFT helps a weak base more", "code in pretraining lifts reasoning"
CLAIMS = (
    *raised(ALIGNMENT, "SFT", "ppo/sft", "ppo/base"),
    *raised(ALIGNMENT, "PPO after SFT", "ppo/policy", "ppo/sft"),
    *raised(ALIGNMENT, "GRPO after SFT", "grpo/policy", "grpo/sft"),
    Claim(WEAK, "pass@1 gained from the weak base less that from the strong one", gained_more, 1),
    Claim(CODE, "pass@1 of the base model with code less that without", between("ppo/base/pass_at_1", "no-code/base/pass_at_1"), 1),
    Claim(CODE, "the same after SFT", between("ppo/sft/pass_at_1", "no-code/sft/pass_at_1"), 1),
)


class Finding(NamedTuple):
    """A claim and what became of it."""

    claim: Claim
    differences: list[float]
    """One a seed."""
    estimate: Estimate
    """Their mean."""
    verdict: str

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        said = {"finding": self.claim.finding, "claim": self.claim.says, "expected_sign": self.claim.sign}
        return {**said, "differences": self.differences, "mean": self.estimate.plain(), "verdict": self.verdict}


def over_seeds(values: Sequence[float]) -> Estimate:
    """Mean over seeds with Student's 95% interval; no interval of one seed. Raises ValueError for none."""
    if not values:
        raise ValueError("a mean needs at least one seed")
    mean, n = float(np.mean(values)), len(values)
    if n == 1:
        return Estimate(mean, math.nan, math.nan, 1)
    error = float(np.std(values, ddof=1)) / math.sqrt(n)
    half = float(student.ppf(0.975, n - 1)) * error
    return Estimate(mean, mean - half, mean + half, n, error)


def verdict(estimate: Estimate, sign: int) -> str:
    """Whether the interval lies on the side that a finding names; an interval that ends at 0 says nothing."""
    low, high = sorted((sign * estimate.low, sign * estimate.high))
    if math.isnan(low):
        return "one seed says nothing"
    return "appears" if low > 0 else "the opposite appears" if high < 0 else "does not appear at this size"


def judged(scores: Mapping[int, Scores]) -> list[Finding]:
    """Every claim over seed -> scores."""
    found = []
    for claim in CLAIMS:
        differences = [claim.difference(scores[seed]) for seed in sorted(scores)]
        estimate = over_seeds(differences)
        found.append(Finding(claim, differences, estimate, verdict(estimate, claim.sign)))
    return found


def spelled(estimate: Estimate) -> str:
    """A signed difference with its interval."""
    interval = "" if math.isnan(estimate.low) else f" [{estimate.low:+.3f}, {estimate.high:+.3f}]"
    return f"{estimate.value:+.3f}{interval}"


def score_table(scores: Mapping[int, Scores]) -> Table:
    """Means over seeds of every model."""
    table = Table(title=f"sums passed, mean over {len(scores)} seeds [95%]", title_justify="left")
    for head in ("run", "model", *(metric.replace("_at_", "@") for metric in METRICS)):
        table.add_column(head)
    models = dict.fromkeys(key.rpartition("/")[0] for key in next(iter(scores.values())))
    for model in models:
        means = [over_seeds([one[f"{model}/{metric}"] for one in scores.values()]) for metric in METRICS]
        shown = [f"{one.value:.3f}" + ("" if math.isnan(one.low) else f" [{one.low:.3f}, {one.high:.3f}]") for one in means]
        table.add_row(*model.split("/"), *shown)
    return table


def finding_table(findings: Sequence[Finding]) -> Table:
    """One row a claim."""
    table = Table(title="findings", title_justify="left")
    for head in ("finding", "claim", "difference [95%]", "verdict"):
        table.add_column(head, overflow="fold")
    for one in findings:
        table.add_row(one.claim.finding, one.claim.says, spelled(one.estimate), one.verdict)
    return table


def plot(scores: Mapping[int, Scores], path: Path) -> None:
    """Alignment, two bases and code side by side: means over seeds with their intervals."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    from modelyard.page_style import PLOT
    from modelyard.release.card.evolution import chart

    def points(models: Mapping[str, str], metric: str) -> list[tuple[str, Estimate]]:
        return [(label, over_seeds([one[f"{model}/{metric}"] for one in scores.values()])) for label, model in models.items()]

    pyplot.rcParams.update(PLOT)
    figure, panels = pyplot.subplots(1, 3, figsize=(15, 4.5), constrained_layout=True)
    line = {"base": "ppo/base", "SFT": "ppo/sft", "PPO": "ppo/policy", "GRPO": "grpo/policy"}
    for metric in METRICS:
        chart(panels[0], points(line, metric), metric.replace("_at_", "@"))
    for name, run in (("many steps", "ppo"), ("few steps", "weak")):
        chart(panels[1], points({"base": f"{run}/base", "SFT": f"{run}/sft"}, "pass_at_1"), name)
    for name, run in (("with code", "ppo"), ("without code", "no-code")):
        chart(panels[2], points({"base": f"{run}/base", "SFT": f"{run}/sft"}, "pass_at_1"), name)
    for panel, title in zip(panels, (ALIGNMENT, WEAK, CODE), strict=True):
        panel.set(title=title, ylabel="share of sums passed", ylim=(0, 1.02))  # Student's interval of a few seeds knows no ends of a share
        panel.legend()
    figure.savefig(path, dpi=110)
