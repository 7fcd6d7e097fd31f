"""What a release is held to: the gates' names and thresholds, the benchmarks that versions are compared on, and who may set a gate aside."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from modelyard.config import Config

Compared = Literal["held_out_text", "last_word", "human_eval", "toxicity"]
"""Benchmarks that any version can be put to: made of text, and no other model has a part in their scores."""
GateName = Literal[
    "weights",
    "data",
    "metrics",
    "contamination",
    "forecast",
    "regression",
    "alignment_tax",
    "calibration",
    "safety",
    "preference",
    "sign_off",
]


class Override(Config):
    """A person's decision that one gate shall not stop this release."""

    gate: GateName
    """Which; ``weights`` cannot be overridden: results of other weights say nothing."""
    name: str = Field(pattern=r"\S")
    """Who decided."""
    reason: str = Field(pattern=r"\S")
    """Why."""

    @model_validator(mode="after")
    def _possible(self) -> Override:
        if self.gate in ("weights", "sign_off"):
            raise ValueError(f"{self.gate} cannot be overridden: results of other weights say nothing, and a signature is a person's")
        return self


class ConductLimits(Config):
    """The two sides of safety: what must be refused is, and what is safe is answered."""

    max_over_refusal: float = Field(ge=0, le=1)
    """Largest share of safe prompts refused (upper end of the interval)."""
    max_unsafe_answered: float = Field(ge=0, le=1)
    """Largest share of unsafe prompts answered (upper end)."""
    max_jailbroken: float = Field(ge=0, le=1)
    """Largest share of jailbreaks answered (upper end)."""
    tolerance: float = Field(ge=0, le=1)
    """Rise of any of them over the SFT model or production that is put up with."""


class SetAside(Config):
    """What cannot apply to a line with an imported base, each with the reason that stands on the record. Nothing else can be set aside."""

    forecast: str | None = Field(default=None, pattern=r"\S")
    """The forecast of the base model's loss: others trained it, or it is trained further from their weights."""
    pretraining_data: str | None = Field(default=None, pattern=r"\S")
    """The search for benchmark items in what the imported model was pretrained on."""

    @property
    def names(self) -> list[str]:
        """What is set aside."""
        return [name for name, reason in self if reason is not None]


class ReleaseConfig(Config):
    """Thresholds. All of them define the decision."""

    min_items: int = Field(ge=1)
    """Fewest items behind a metric or a comparison that decides."""
    max_contaminated: float = Field(ge=0, le=1)
    """Largest share of a benchmark's items found in training data."""
    forecast_tolerance: float = Field(gt=0)
    """Largest relative error of the sealed loss forecast."""
    protected: tuple[Compared, ...] = Field(min_length=1)
    """Benchmarks on which the candidate may not be worse than production."""
    tolerance: dict[Compared, float]
    """Benchmark -> loss of mean score that is put up with (0 where not named)."""
    alpha: float = Field(gt=0, lt=1)
    """Level of the paired tests after Holm's correction."""
    max_toxicity: float = Field(ge=0, le=1)
    """Largest share of toxic completions (upper end of the interval)."""
    max_toxicity_increase: float = Field(ge=0, le=1)
    """Largest rise of that share over the SFT model."""
    conduct: ConductLimits | None = None
    """Limits on refusals, over-refusals and jailbreaks; absent: the line does not measure them."""
    min_win_rate: float = Field(ge=0, le=1)
    """Win rate over SFT that the lower end of the interval must exceed."""
    max_kl: float = Field(gt=0)
    """Largest KL(policy || sft), nats a sequence (upper end of the interval)."""
    max_alignment_tax: dict[Compared, float] = Field(min_length=1)
    """Benchmark -> mean score that post-training may cost against the base model (InstructGPT's alignment tax)."""
    max_calibration_error: float = Field(ge=0, le=1)
    """Largest calibration error of the policy (upper end of the interval)."""
    max_calibration_increase: float = Field(ge=0, le=1)
    """Largest rise of that error over the base model's (GPT-4: from 0.007 to 0.074)."""
    sign_off_minutes: int = Field(default=0, ge=0)
    """How long a person is waited for whose signature a promotion needs; 0: none is asked for."""
    overrides: tuple[Override, ...] = ()
    """Gates that shall not stop this release; each stays on the record with its name and reason."""
    set_aside: SetAside = SetAside()
    """What cannot apply to this line, by name, with the reason."""
    seed: int
    """Of the bootstrap."""


class LineDecision(ReleaseConfig):
    """What defines a decision and its card: the thresholds, the line that the card names, and why production could not be measured."""

    line: str
    """Name of the line."""
    unmeasured: str | None
    """Reason; None where production was measured or there is none."""
