"""What a release is held to: the gates' names and thresholds, and who may set a gate aside.

Every benchmark that the results hold is gated, with the defaults or with what ``limits`` says of it by name, so adding
one to a line needs no second edit. Benchmarks of the aspect ``safety`` are the safety gate's, all others the regression
gate's and the alignment tax's. Limits that no model could
miss are refused when they are read; those that only the scores show to be empty are named or refused by their gate.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, model_validator

from modelyard.closest import did_you_mean
from modelyard.config import Config
from modelyard.release.training_content import TrainingContent
from modelyard.release.visible import Visible

LONGEST_OVERRIDE = timedelta(days=366)
WIDEST = 20.0
"""Largest difference of mean scores that may be put up with: no score has a wider range (nats a token of 65,536 are 11)."""
LARGEST = 1e6
"""Largest limit of a metric, either way: none is measured in more, so a larger one limits nothing."""
LEAST_WIN_RATE = 0.01
"""Smallest win rate that may be asked for: below it a policy that loses to SFT on nearly every prompt would do."""
Limit = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]
GateName = Literal[
    "weights",
    "data",
    "metrics",
    "contamination",
    "forecast",
    "regression",
    "alignment_tax",
    "vision",
    "calibration",
    "safety",
    "content_classifier",
    "preference",
    "sign_off",
]


class Override(Config):
    """A person's decision that one gate shall not stop this release."""

    gate: GateName
    """Which; ``weights`` cannot be overridden: results of other weights say nothing."""
    name: Visible
    """Who decided."""
    reason: Visible
    """Why."""
    expires: date
    """The last day on which it counts, such as 2026-12-31."""

    @property
    def when(self) -> str:
        """The last day as people read it."""
        return f"until {self.expires}"

    @model_validator(mode="after")
    def _possible(self) -> Override:
        if self.gate in ("weights", "sign_off"):
            raise ValueError(f"{self.gate} cannot be overridden: results of other weights say nothing, and a signature is a person's")
        return self


class BenchmarkLimits(Config):
    """What one benchmark is held to, where that differs from what every benchmark is held to."""

    gated: bool = True
    """Whether it can stop a release at all; otherwise it is measured and shown."""
    metric: str = ""
    """Value of the records that is compared, such as ``acc_norm``; "": their score."""
    tolerance: float | None = Field(default=None, ge=0, lt=WIDEST)
    """Mean score that may be lost against production; for safety also against the SFT model."""
    max_alignment_tax: float | None = Field(default=None, ge=0, lt=WIDEST)
    """Mean score that post-training may cost against the base model."""
    max_contaminated: float | None = Field(default=None, ge=0, lt=1)
    """Largest share of its items found in training data by content."""
    min_items: int | None = Field(default=None, ge=1)
    """Fewest items behind a number of it that decides."""
    max: dict[str, Limit] = Field(default_factory=dict)
    """Metric -> largest value that the upper end of the policy's interval may have."""
    min: dict[str, Limit] = Field(default_factory=dict)
    """Metric -> smallest value that the lower end of the policy's interval may have."""
    max_increase: dict[str, Limit] = Field(default_factory=dict)
    """Metric -> largest rise of its value over the SFT model's; over the base model's where the SFT model is released."""
    max_decrease: dict[str, Limit] = Field(default_factory=dict)
    """Metric -> largest fall of its value below that model's, such as of ``pass@100``, which a higher ``pass@1`` may be paid with."""

    @property
    def limited(self) -> list[str]:
        """The metrics that have limits."""
        return list(dict.fromkeys([*self.max, *self.min, *self.max_increase, *self.max_decrease]))


class Held(NamedTuple):
    """The limits of one benchmark with the defaults filled in."""

    own: BenchmarkLimits
    tolerance: float
    max_alignment_tax: float
    max_contaminated: float
    min_items: int


OF_BASE = ("forecast", "pretraining_data")
"""What cannot apply to a line with an imported base, and always applies to one that is pretrained."""


class SetAside(Config):
    """What cannot apply to a line, each with the reason that stands on the record. Nothing else can be set aside."""

    forecast: Visible | None = None
    """The forecast of the base model's loss: others trained it, or it is trained further from their weights."""
    pretraining_data: Visible | None = None
    """The search for benchmark items in what the imported model was pretrained on."""

    content_classifier: Visible | None = None
    """The classifier that guards what the released model is asked and says: nobody labelled texts for this line. No
    effect where there is one."""
    preference: Visible | None = None
    """The comparison of the policy with the SFT model, in a line that has no policy and releases its SFT model."""

    @property
    def of_base(self) -> list[str]:
        """What is set aside of :data:`OF_BASE`."""
        return [name for name in OF_BASE if getattr(self, name) is not None]


class ReleaseConfig(Config):
    """Thresholds. All of them define the decision."""

    min_items: int = Field(ge=1)
    """Fewest items behind a metric or a comparison that decides."""
    max_contaminated: float = Field(ge=0, lt=1)
    """Largest share of a benchmark's items found in training data by content."""
    max_contaminated_written: float | None = Field(default=None, ge=0, lt=1)
    """Largest share found as written, by the GPT-4 report's rule; by default that figure is reported and stops nothing."""
    max_contamination_gain: float = Field(default=0.05, ge=0, lt=1)
    """Mean score by which the base model may be ahead of its twin that never saw a benchmark item, where the line trains one."""
    min_vision_gain: float = Field(default=0.0, ge=0, lt=1)
    """Mean score by which a release that is shown images must be ahead of its twin that never saw one, on every benchmark with images."""
    forecast_tolerance: float = Field(gt=0, lt=1)
    """Largest relative error of the sealed loss forecast."""
    alpha: float = Field(ge=1e-6, lt=1)
    """Level of the paired tests after Holm's correction."""
    tolerance: float = Field(default=0.02, ge=0, lt=1)
    """Mean score that a benchmark may lose against production."""
    max_alignment_tax: float = Field(default=0.05, ge=0, lt=1)
    """Mean score that post-training may cost on a benchmark against the base model (InstructGPT's alignment tax)."""
    limits: dict[str, BenchmarkLimits] = Field(default_factory=dict)
    """Benchmark -> what it is held to instead of the defaults, and limits on its metrics."""
    preference: str = "openings"
    """Benchmark on whose completions the policy is compared with the SFT model."""
    min_win_rate: float = Field(ge=LEAST_WIN_RATE, le=1)
    """Win rate over SFT that the lower end of the interval must exceed."""
    max_kl: float = Field(gt=0, le=10_000)
    """Largest KL(policy || sft), nats a sequence (upper end of the interval)."""
    calibration: tuple[str, ...] = ("next_token",)
    """Benchmarks whose calibration error is judged: next tokens, or any multiple choice."""
    max_calibration_error: float = Field(ge=0, lt=1)
    """Largest calibration error of the policy (upper end of the interval)."""
    max_calibration_increase: float = Field(ge=0, lt=1)
    """Largest rise of that error over the base model's (GPT-4: from 0.007 to 0.074)."""
    first: bool = False
    """Whether nothing need be in production yet. Without it a registry in which nothing serves holds the release: it may be the wrong one.
    No effect where something serves."""
    sign_off_minutes: int = Field(default=0, ge=0)
    """How long a person is waited for whose signature a promotion needs, and who may release what gates hold; 0: none is asked for."""
    sign_at: Literal["anywhere", "desk"] = "anywhere"
    """Where that signature is given: in the form of the paused run too, whose names are claims, or by an account that may release, at the desk."""
    overrides: tuple[Override, ...] = ()
    """Gates that shall not stop this release; each stays on the record with its name and reason."""
    set_aside: SetAside = SetAside()
    """What cannot apply to this line, by name, with the reason."""
    training_content: TrainingContent = TrainingContent()
    """What the public summary of training content says that no lineage knows."""
    seed: int
    """Of the bootstrap."""

    @model_validator(mode="after")
    def _asked(self) -> ReleaseConfig:
        if self.sign_at == "desk" and not self.sign_off_minutes:
            raise ValueError('sign_at: "desk" needs sign_off_minutes: without it nobody is asked for a signature')
        return self

    def of(self, benchmark: str) -> Held:
        """What a benchmark is held to."""
        own = self.limits.get(benchmark, BenchmarkLimits())

        def given(value: float | None, default: float) -> float:
            return default if value is None else value

        return Held(
            own,
            given(own.tolerance, self.tolerance),
            given(own.max_alignment_tax, self.max_alignment_tax),
            given(own.max_contaminated, self.max_contaminated),
            self.min_items if own.min_items is None else own.min_items,
        )

    @model_validator(mode="after")
    def _can_fail(self) -> ReleaseConfig:
        """Fewer items than these could all flip without being significant (McNemar's exact test: p is at least 2^(1 - n)). What Holm's
        correction over many benchmarks leaves of it, the gates say, which know their items (:func:`release.gates.measured.tested`)."""
        named = [("min_items", self.min_items)]
        named += [(f"limits.{name}.min_items", own.min_items) for name, own in self.limits.items() if own.min_items]
        for key, items in named:
            if 2.0 ** (1 - items) >= self.alpha:
                raise ValueError(
                    f"{key} {items}: so few items can never be significantly worse at alpha {self.alpha:g}; no gate could fail"
                )
        return self

    def require_current(self, today: date) -> None:
        """Raise ValueError where an override has expired, or is for longer than a year."""
        for number, override in enumerate(self.overrides):
            key = f"release.overrides.{number}.expires"
            if override.expires < today:
                raise ValueError(f"{key}: {override.name}'s override of {override.gate} expired on {override.expires}")
            if override.expires - today > LONGEST_OVERRIDE:
                raise ValueError(f"{key}: {override.expires} is more than a year away")

    def require_measured(self, benchmarks: list[str]) -> None:
        """Raise ValueError where the limits, the preference or the calibration name a benchmark that a line does not
        measure; ``next_token`` and ``validation_loss`` are measured wherever there are packed tokens."""
        known = {*benchmarks, "next_token", "validation_loss"}
        named = [(f"release.limits.{name}", name) for name in self.limits]
        named += [] if self.set_aside.preference else [("release.preference", self.preference)]
        named += [("release.calibration", name) for name in self.calibration]
        for key, name in named:
            if name not in known:
                raise ValueError(f"{key}: {name!r} is none of evals.benchmarks ({', '.join(benchmarks)}){did_you_mean(name, known)}")


class LineDecision(ReleaseConfig):
    """What defines a decision and its card: the thresholds, the line that the card names, and what of production
    could not be measured or is gone."""

    line: str
    """Name of the line."""
    unmeasured: str | None
    """Reason; None where production was measured or there is none."""
    lost_classifier: str | None = None
    """Production's content classifier, where the store does not have it any more."""
