"""What gates are made of: evidence, one gate's verdict, the decision. Pure.

Every gate looks at one kind of evidence. Absence never passes: a missing metric, a NaN, too few items, weights or a benchmark id other than
the ones asked about all BLOCK. The gates over what a model was made from are in ``gates.origin``, those over what it does in
``gates.behaviour`` and ``gates.safety``; ``release.verdict`` puts all together. After Google's Model Card thresholds and GPT-4's release
criteria in spirit; the papers give no rules to copy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, Literal, NamedTuple

from modelyard.config import Config
from modelyard.formats.contamination import Report
from modelyard.formats.forecast import SealedForecast
from modelyard.formats.harms import Report as ClassifierReport
from modelyard.formats.harms import Verdict as Said
from modelyard.formats.results import Results
from modelyard.release.compare import Comparison
from modelyard.release.limits import GateName, Override
from modelyard.release.visible import Visible
from modelyard.stats.estimate import Estimate

Verdict = Literal["PROMOTE", "HOLD", "BLOCK"]
MODELS = ("base", "no_contam", "no_vision", "sft", "policy")
"""Models that are measured, in the order of their making; a line without twins has no ``no_contam`` and no ``no_vision``."""


class Use(NamedTuple):
    """A training set that went into a model."""

    model: str
    """A key of ``decision.TRAINED_ON``."""
    name: str
    """The set, as the contamination report calls it."""
    data: str | None
    """``corpus/version`` or ``feedback/version`` it was read from; None: unknown."""


class Classified(NamedTuple):
    """A content classifier, as far as versions of it are compared."""

    report: ClassifierReport
    """What it is worth."""
    verdicts: Sequence[Said]
    """What it said of every held-out text."""


class Evidence(NamedTuple):
    """All that a decision rests on.

    None stands for missing, except for the baseline: None there means that nothing is in production yet.
    """

    results: Results
    weights: Mapping[str, str]
    """Model -> fingerprint of the weights to be released, computed from the files."""
    suite: Mapping[str, Any] | None
    """Outcome of the data suite: ``success`` and ``evaluated``."""
    metric_suite: Mapping[str, Any] | None
    """Outcome of the suites on the table of metrics, like ``suite``."""
    contradiction: str
    """The first metric of the results that is not what their records say; "" where there is none."""
    contamination: Report | None
    """Benchmark -> what the contamination check found of it."""
    searched: Sequence[str]
    """``corpus/version`` and ``feedback/version`` whose sets the contamination check searched."""
    trained: Sequence[Use]
    """Every training set of every model of the line."""
    forecast: SealedForecast | None
    """The prediction of the base model's loss."""
    sealed_at: float | None
    """When its artifact was committed (seconds since 1970): from then on nothing in it can change."""
    base: Mapping[str, Any] | None
    """The base model's run: ``started`` (seconds since 1970) and ``flops``."""
    final_loss: float | None
    """What the forecast predicted, as measured after pretraining."""
    baseline: Results | None
    """Results of the production model."""
    unmeasured: str | None
    """Why the production model has no results by today's benchmarks; None where it has or where there is none."""
    classifier: Classified | None = None
    """The content classifier that the release is served with."""
    production_classifier: Classified | None = None
    """The one that production is served with; None where it has none."""
    ends_with_sft: bool = False
    """Whether what is released is the SFT model itself: then nothing was optimised against a reward model, and it is compared with its base."""
    sees: bool = False
    """Whether the release is shown images."""
    twin_differs: str = ""
    """What else than the images differs in how the release and its twin that never saw one were trained; "" where nothing does."""
    lost_classifier: str | None = None
    """The artifact of production's that the store does not have any more."""


class Objection(Config):
    """What a benchmark has against the release, item by item."""

    benchmark: str
    """Name."""
    lost: bool
    """Whether the items were lost against another model; otherwise they failed by themselves."""
    against: str
    """``production``, or the model whose answers stand beside."""
    metric: str
    """Value of the records that counts; "": their score."""
    n: int
    """Items that were lost or failed."""
    items: tuple[str, ...]
    """The first of them."""


class Signed(Config):
    """A person's signature under a decision, by which a gate that held does not stop this one release."""

    name: Visible
    """Who signed."""
    reason: Visible
    """Why."""
    on: date
    """The day of the signature."""

    @property
    def when(self) -> str:
        """The day as people read it."""
        return f"signed on {self.on}"


class Gate(Config):
    """One gate's verdict."""

    name: GateName
    """What was judged."""
    verdict: Verdict
    """PROMOTE: nothing against it."""
    reason: str
    """One line with the numbers."""
    metrics: dict[str, float]
    """The numbers."""
    objections: tuple[Objection, ...] = ()
    """What the benchmarks that it is about have against the release; none where nothing speaks against it."""
    override: Override | Signed | None = None
    """Who set the verdict aside, and why."""
    set_aside: bool = False
    """The line's config says that this gate cannot apply; the reason is the config's."""

    @property
    def shown(self) -> str:
        """The verdict as people read it."""
        return "set aside" if self.set_aside else self.verdict

    @property
    def standing(self) -> Verdict:
        """The verdict that counts."""
        return "PROMOTE" if self.override else self.verdict


class Decision(Config):
    """All gates and what follows."""

    verdict: Verdict
    """The worst that stands."""
    gates: tuple[Gate, ...]
    """In the order judged."""
    comparisons: tuple[Comparison, ...]
    """Benchmark by benchmark against production; empty for a first release."""
    tax: tuple[Comparison, ...]
    """Benchmark by benchmark against the base model."""
    contamination_gain: tuple[Comparison, ...] = ()
    """Benchmark by benchmark, the base model against its twin that never saw an item; empty for a line without one."""
    conduct: tuple[Comparison, ...] = ()
    """Every side of safety against the SFT model and against production."""
    vision: tuple[Comparison, ...] = ()
    """Benchmark by benchmark, the release against its twin that never saw an image; empty for a release that is shown none."""
    content_classifier: tuple[Comparison, ...] = ()
    """Kind of text by kind of text, the content classifier against production's."""


class RefusedError(ValueError):
    """Evidence that cannot be used."""


def number(value: object, what: str) -> float:
    """``value`` as a finite number; raises RefusedError when it is missing, no number, or NaN."""
    if value is None:
        raise RefusedError(f"{what} is missing")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise RefusedError(f"{what} is {value}, not a finite number")
    return float(value)


def metric(results: Results, key: str, min_items: int) -> Estimate:
    """A metric fit to decide with: there, finite, with an interval that holds it and enough items behind it."""
    if key not in results.metrics:
        raise RefusedError(f"metric {key} is missing")
    estimate = results.metrics[key]
    for part in ("value", "low", "high"):
        number(getattr(estimate, part), f"{key} ({part})")
    if not estimate.low <= estimate.value <= estimate.high:
        raise RefusedError(f"{key} {estimate} lies outside its own interval")
    if estimate.n < min_items:
        raise RefusedError(f"{key} has {estimate.n} items, fewer than {min_items}")
    return estimate
