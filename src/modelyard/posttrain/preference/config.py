"""Settings of the ``policy`` stage where it learns from what people said of answers: DPO, K-wise DPO, IPO and KTO."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from modelyard.model.training.spikes import SpikeConfig
from modelyard.posttrain.policy.config import PolicyConfig
from modelyard.posttrain.preference.reference import ReferenceConfig


class PreferenceConfig(PolicyConfig):
    """Passes over the reward model's comparisons, KTO's over thumbs too. Completions of a comparison stand in one micro-batch, each in its row."""

    epochs: float = Field(gt=0)
    """Passes over the comparisons (DPO's authors: 1 to 3)."""
    batch: int = Field(ge=1)
    """Comparisons of a step (DPO: 64); KTO's thumbs count as one each."""
    max_tokens: int | None = Field(default=None, ge=2)
    """Longest prompt with completion that is trained on, in positions; a comparison with a longer one is left out, since a text that is cut
    would teach never to stop. Absent: the model's ``seq_len``."""
    beta: float = Field(gt=0)
    """Reward per nat of log pi / pi_ref: the larger, the closer the policy stays to the SFT model (DPO: 0.1; IPO's tau)."""
    spike: SpikeConfig | None = None
    """When a step is not taken because its loss stands out; absent: never."""

    @property
    def batches(self) -> dict[str, tuple[int, int]]:
        """None that has to divide: micro-batches are filled up with rows that belong to no comparison."""
        return {}

    @property
    def reference(self) -> ReferenceConfig:
        """What the reference model's log-probabilities of the comparisons depend on; no setting of a loss, so all losses share them."""
        return ReferenceConfig(precision=self.precision, micro_batch=self.micro_batch, max_tokens=self.max_tokens)


class ContrastConfig(PreferenceConfig):
    """Losses of how completions of one prompt compare."""

    length_normalised: bool
    """Whether log pi / pi_ref is taken a token rather than a completion (TRL's IPO, Tulu 3's DPO); the papers' equations sum."""
    sft_coef: float = Field(ge=0)
    """Weight of -log pi a token of completions that nothing is preferred to (Llama 3: 0.2), so that what is liked does not become unlikely."""


class DPOConfig(ContrastConfig):
    """DPO (arXiv:2305.18290, eq. 7) over all pairs of a ranking, each comparison counting once as for the reward model."""

    algorithm: Literal["dpo"]
    """Every pair of a ranking."""


class KWiseDPOConfig(ContrastConfig):
    """K-wise DPO: the Plackett-Luce likelihood of a whole ranking (arXiv:2305.18290, eq. 20), summed over the orders that ties leave open."""

    algorithm: Literal["kwise_dpo"]
    """A whole ranking at once."""


class IPOConfig(ContrastConfig):
    """IPO (arXiv:2310.12036, eq. 17) over all pairs of a ranking: margins are driven to 1 / (2 beta) instead of to infinity."""

    algorithm: Literal["ipo"]
    """Every pair of a ranking, up to a margin."""


class KTOConfig(PreferenceConfig):
    """KTO (arXiv:2402.01306, eq. 8): completions are good or bad by themselves, as thumbs say or as their place in a ranking does."""

    algorithm: Literal["kto"]
    """Every completion by itself."""
    desirable_weight: float = Field(ge=0)
    """Lambda of good completions (KTO: the two weights times how many there are of each should be within 1 to 4/3 of each other;
    ``policy/train/thumbs/...`` counts them)."""
    undesirable_weight: float = Field(ge=0)
    """Lambda of bad ones."""

    @model_validator(mode="after")
    def _something(self) -> KTOConfig:
        if not self.desirable_weight and not self.undesirable_weight:
            raise ValueError("desirable_weight and undesirable_weight are both 0: nothing would be learned")
        return self

    @property
    def reference(self) -> ReferenceConfig:
        """Also of thumbs, and of completions behind other prompts, from which the KL is estimated."""
        return super().reference.model_copy(update={"thumbs": True})
