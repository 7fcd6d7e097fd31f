"""The config of a line whose base model others pretrained."""

from __future__ import annotations

from collections.abc import Sequence

from modelyard.evals.refusals import RefusalsConfig
from pydantic import Field, model_validator

from modelyard.config import Config, load_config
from modelyard.data.feedback.gather import FeedbackConfig
from modelyard.data.text_tokens import TextTokensConfig
from modelyard.execution import ExecutionConfig
from modelyard.posttrain.feedme import FeedMEConfig
from modelyard.posttrain.judged.rbrm import RBRMConfig
from modelyard.posttrain.ppo.config import PPOConfig
from modelyard.posttrain.reward import RewardConfig
from modelyard.posttrain.selection import SelectionConfig
from modelyard.posttrain.sft import SFTConfig
from modelyard.pretrain.import_model import ImportConfig


class ImportedConfig(Config):
    """What the line builds from an imported model. Each table is a stage; ``execution`` says where it runs and changes no artifact."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the line: its MLflow experiment."""
    base: ImportConfig
    """The imported model."""
    feedback: FeedbackConfig
    """Demonstrations, comparisons and prompts."""
    tokens: TextTokensConfig
    """Text for the pretraining mix."""
    sft: SFTConfig
    """Supervised fine-tuning."""
    reward: RewardConfig
    """Reward model."""
    selection: SelectionConfig | None = None
    """Choice among the epochs of SFT by reward-model score; what is chosen is what PPO is compared with. Absent: the last epoch."""
    rbrm: RBRMConfig | None = None
    """Rule-based rewards of PPO; absent: the reward model's alone."""
    feedme: FeedMEConfig | None = None
    """A second SFT on the model's own best answers, from which PPO then starts. Absent: none."""
    ppo: PPOConfig
    """Policy optimisation."""
    refusals: RefusalsConfig
    """What is refused before and after."""
    execution: ExecutionConfig = ExecutionConfig()
    """Where and how it runs."""

    @model_validator(mode="after")
    def _fits_together(self) -> ImportedConfig:
        width = self.sft.max_tokens or self.base.seq_len
        if self.sft.pretraining_per_batch and self.tokens.seq_len < width:
            raise ValueError(f"tokens.seq_len {self.tokens.seq_len} is less than the width of SFT's rows {width}")
        if self.tokens.seq_len > self.base.seq_len:
            raise ValueError(f"tokens.seq_len {self.tokens.seq_len} is more than base.seq_len {self.base.seq_len}")
        if self.selection and not self.sft.keep_epochs:
            raise ValueError("sft.keep_epochs must be true for selection to have something to choose from")
        if self.ppo.max_new_tokens >= self.base.seq_len:
            raise ValueError(f"ppo.max_new_tokens {self.ppo.max_new_tokens} leaves no room for a prompt in seq_len {self.base.seq_len}")
        for key in ("sft", "reward"):
            if (getattr(self, key).max_tokens or 0) > self.base.seq_len:
                raise ValueError(f"{key}.max_tokens {getattr(self, key).max_tokens} is more than base.seq_len {self.base.seq_len}")
        return self


def load_imported(file: str, overrides: Sequence[str]) -> ImportedConfig:
    """Read the TOML file of a line with an imported base. Raises ConfigError with one line naming file and key."""
    return load_config(ImportedConfig, file, overrides)
