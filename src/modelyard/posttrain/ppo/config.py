"""PPO-ptx's settings, with InstructGPT's published values beside ours."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from modelyard.config import Config
from modelyard.model.network.architecture import Precision
from modelyard.model.training.optimizer import OptimizerConfig
from modelyard.posttrain.ppo.kl_control import AdaptiveKLConfig


class PPOConfig(Config):
    """PPO-ptx. InstructGPT warms the learning rate up over 10 iterations from 1/10: ``optimizer.warmup_steps`` counts minibatches."""

    seed: int
    """Prompts, samples and order of minibatches."""
    precision: Precision
    """``fp32`` or ``bf16`` parameters."""
    iterations: int
    """Rounds of sampling and training (InstructGPT: 256k episodes = 500 rounds)."""
    episodes: int
    """Completions sampled in an iteration (InstructGPT: 512)."""
    minibatches: int
    """Optimizer steps of an iteration, one pass over its episodes (InstructGPT: 8 of 64 episodes, one inner epoch)."""
    micro_batch: int
    """Rows of one forward pass on one replica."""
    max_new_tokens: int
    """Longest completion."""
    max_prompt_tokens: int | None = None
    """Longest prompt that is sampled from; absent: what the model's ``seq_len`` leaves beside a completion."""
    temperature: float
    """Sampling temperature (InstructGPT: 1; log-probabilities are always those at 1)."""
    kl_coef: float
    """Beta, charge per nat of KL to the SFT model (InstructGPT: 0.02, for its reward model's scale); with ``adaptive_kl`` the first one."""
    adaptive_kl: AdaptiveKLConfig | None = None
    """Moves the charge towards a target KL; absent: it is fixed, as InstructGPT's."""
    kl_stop: float
    """Mean KL of an iteration's sequences, in nats, above which training stops."""
    on_kl_stop: Literal["stop", "error"]
    """``stop`` keeps the policy as it is and ends the loop; ``error`` fails the run."""
    gae_lambda: float
    """Lambda of GAE (not published for InstructGPT)."""
    clip_range: float = Field(gt=0)
    """Clip of the policy's ratio (InstructGPT: 0.2)."""
    value_clip_range: float = Field(gt=0)
    """How far from its old value a value may move within an iteration (InstructGPT: 0.2)."""
    ptx_coef: float
    """Gamma on the mean loss of pretraining tokens (InstructGPT: 27.8, against its own normalisation; 0 is plain PPO)."""
    ptx_rows: int
    """Rows of pretraining text of a minibatch, as long as they were packed (InstructGPT: 8 times the episodes)."""
    ema_decay: float
    """Decay of the released weights' moving average over iterations (InstructGPT: 0.992); 0 releases the last weights."""
    final_episodes: int
    """Completions sampled from the finished policy to measure KL and reward."""
    final_rows: int
    """Rows of validation tokens on which the language model's loss is measured before and after."""
    optimizer: OptimizerConfig
    """AdamW of the policy (its learning rate was not published for the released models)."""
    value_optimizer: OptimizerConfig
    """AdamW of the value model (InstructGPT: 9e-6)."""

    @model_validator(mode="after")
    def _fits(self) -> PPOConfig:
        if self.minibatches < 1 or self.episodes % self.minibatches:
            raise ValueError(f"episodes {self.episodes} is not divisible by minibatches {self.minibatches}")
        if self.micro_batch < 1 or self.minibatch % self.micro_batch or self.ptx_rows % self.micro_batch:
            raise ValueError(f"minibatch {self.minibatch} and ptx_rows {self.ptx_rows} must be multiples of micro_batch {self.micro_batch}")
        if (self.ptx_coef > 0) != (self.ptx_rows > 0):
            raise ValueError("ptx_coef and ptx_rows must both be positive or both be 0")
        if self.temperature != 1 or self.iterations < 1 or self.max_new_tokens < 1:
            raise ValueError(
                "temperature must be 1 (the KL is measured under the sampling distribution), iterations and max_new_tokens >= 1"
            )
        if not 0 <= self.ema_decay < 1 or not 0 <= self.gae_lambda <= 1:
            raise ValueError("ema_decay must lie in [0, 1) and gae_lambda in [0, 1]")
        return self

    @property
    def minibatch(self) -> int:
        """Episodes of an optimizer step."""
        return self.episodes // self.minibatches
