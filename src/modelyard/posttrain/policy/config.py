"""Settings of the ``policy`` stage where it samples: PPO-ptx, GRPO, RLOO and on-policy distillation, with the published values beside ours.

An algorithm is a table of its own keys, so a combination that means nothing (a critic's clip range for GRPO, a group size for PPO, a reward for
distillation) is an unknown key when the config is read. What all policies share, those that are trained on comparisons
(:mod:`modelyard.posttrain.preference.config`) among them, is :class:`PolicyConfig`.
"""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, model_validator

from modelyard.config import Config
from modelyard.judges.open_judge import TeacherConfig
from modelyard.judges.sandbox.run import Limits
from modelyard.model.network.lora import LoRAConfig
from modelyard.model.network.model_config import Precision
from modelyard.model.training.optimizer import OptimizerConfig
from modelyard.posttrain.policy.kl_control import AdaptiveKLConfig
from modelyard.posttrain.policy.verified import VerifiedReward


class PolicyConfig(Config):
    """What every policy has, however it is trained."""

    seed: int = Field(ge=0)
    """Prompts, samples and order of what is trained on."""
    precision: Precision
    """``fp32`` or ``bf16`` parameters."""
    micro_batch: int = Field(ge=1)
    """Texts of one forward pass on one replica."""
    max_new_tokens: int = Field(ge=1)
    """Longest completion that is sampled."""
    max_prompt_tokens: int | None = Field(default=None, ge=1)
    """Longest prompt that is sampled from; absent: what the model's ``seq_len`` leaves beside a completion."""
    prompt_categories: tuple[str, ...] = ()
    """Categories of the prompts that are sampled from; none: all."""
    final_episodes: int = Field(ge=1)
    """Completions sampled from the finished policy to measure KL and reward."""
    final_rows: int = Field(ge=1)
    """Rows of validation tokens on which the language model's loss is measured before and after."""
    optimizer: OptimizerConfig
    """AdamW of the policy (InstructGPT's learning rate was not published for the released models)."""
    lora: LoRAConfig | None = None
    """Adapters that are trained in place of all weights (``[policy.lora]``); absent: all weights are. The reference is then the same
    body without them, and PPO's critic and reward model stand on it too where they can."""

    @property
    def batches(self) -> dict[str, tuple[int, int]]:
        """Key -> rows of a batch and of a micro-batch: what the replicas have to share evenly."""
        raise NotImplementedError


class RolloutsConfig(Config):
    """Who draws the samples, and what is made of a server's log-probabilities that differ from the policy's."""

    backend: Literal["own", "server"] = "own"
    """``own``: the engine that trains; ``server``: vLLM, or any that speaks its ``/v1/completions``, with the policy's exported weights
    (``execution.sampler`` says which). The finished policy is measured by the own engine."""
    weight_cap: float = Field(default=2.0, ge=1)
    """Most that a token's importance weight, p of the policy / p of the server, counts in the loss (Yao et al. 2025: 2)."""
    max_mismatch: float | None = Field(default=None, gt=0)
    """Mean |log p of the server - log p of the policy| of an iteration's tokens, in nats, above which the run fails: it is not the same model.
    Absent: 1e-3 in fp32, 0.1 in bf16, as of the own engine."""

    @model_validator(mode="after")
    def _of_a_server(self) -> RolloutsConfig:
        of_a_server = {key: field.default for key, field in RolloutsConfig.model_fields.items() if key != "backend"}
        for key, default in of_a_server.items():
            if self.backend == "own" and getattr(self, key) != default:
                raise ValueError(f"{key} is of samples that a server draws; the backend is 'own'")
        return self


class OnPolicyConfig(PolicyConfig):
    """Rounds of sampling and training. InstructGPT warms the learning rate up over 10 iterations from 1/10: ``optimizer.warmup_steps`` counts
    minibatches."""

    iterations: int = Field(ge=1)
    """Rounds of sampling and training (InstructGPT: 256k episodes = 500 rounds)."""
    episodes: int = Field(ge=1)
    """Completions sampled in an iteration (InstructGPT: 512)."""
    minibatches: int = Field(ge=1)
    """Optimizer steps of an iteration, one pass over its episodes (InstructGPT: 8 of 64 episodes, one inner epoch)."""
    temperature: float
    """Sampling temperature (InstructGPT: 1; log-probabilities are always those at 1)."""
    kl_stop: float = Field(gt=0)
    """Mean KL to the SFT model of an iteration's sequences, in nats, above which training stops."""
    on_kl_stop: Literal["stop", "error"]
    """``stop`` keeps the policy as it is and ends the loop; ``error`` fails the run."""
    clip_range: float = Field(gt=0)
    """Clip of the policy's ratio (InstructGPT: 0.2)."""
    ptx_coef: float = Field(ge=0)
    """Gamma on the mean loss of pretraining tokens (InstructGPT: 27.8, against its own normalisation; 0: no pretraining text)."""
    ptx_rows: int = Field(ge=0)
    """Rows of pretraining text of a minibatch, as long as they were packed (InstructGPT: 8 times the episodes)."""
    ema_decay: float = Field(ge=0, lt=1)
    """Decay of the released weights' moving average over iterations (InstructGPT: 0.992); 0 releases the last weights."""
    rollouts: RolloutsConfig = RolloutsConfig()
    """Who draws the samples."""

    @model_validator(mode="after")
    def _fits(self) -> OnPolicyConfig:
        if self.episodes % self.minibatches:
            raise ValueError(f"episodes {self.episodes} is not divisible by minibatches {self.minibatches}")
        if self.minibatch % self.micro_batch or self.ptx_rows % self.micro_batch:
            raise ValueError(f"minibatch {self.minibatch} and ptx_rows {self.ptx_rows} must be multiples of micro_batch {self.micro_batch}")
        if (self.ptx_coef > 0) != (self.ptx_rows > 0):
            raise ValueError("ptx_coef and ptx_rows must both be positive or both be 0")
        if self.temperature != 1:
            raise ValueError("temperature must be 1 (the KL is measured under the sampling distribution)")
        if self.lora and self.lora.dropout:
            raise ValueError(
                f"lora.dropout {self.lora.dropout}: a ratio to the log-probability of the sampler would be of the dropout; it must be 0"
            )
        return self

    @property
    def one_update(self) -> bool:
        """Whether the only update of an iteration is by the very weights that sampled and nothing asks for their log-probabilities before it, as a
        reward that holds the KL does: then every ratio is 1, and the update's forward pass is the only one that is needed."""
        return False

    @property
    def minibatch(self) -> int:
        """Episodes of an optimizer step."""
        return self.episodes // self.minibatches

    @property
    def prompts(self) -> int:
        """Prompts of an iteration."""
        return self.episodes

    @property
    def undivided(self) -> int:
        """Episodes of one prompt that stay in one minibatch."""
        return 1

    @property
    def is_scored(self) -> bool:
        """Whether a reward model says what the samples are worth; also where nothing learns from it."""
        return True

    @property
    def batches(self) -> dict[str, tuple[int, int]]:
        """Minibatches of episodes and, where there is any, of pretraining text."""
        text = {"policy.ptx_rows": (self.ptx_rows, self.micro_batch)} if self.ptx_rows else {}
        return {"policy.episodes / policy.minibatches": (self.minibatch, self.micro_batch), **text}


class RewardedConfig(OnPolicyConfig):
    """Policies that learn from rewards of whole completions, charged for the distance from the SFT model."""

    reward_weight: float = Field(default=1.0, ge=0)
    """Weight of the reward model's score; 0: what ``rewards`` verify is all that counts."""
    rewards: dict[str, VerifiedReward] = Field(default_factory=dict)
    """Name -> what a rule verifies and rewards beside the reward model."""
    sandbox: Limits = Limits(wall_seconds=15.0, cpu_seconds=5, memory_bytes=1 << 29, file_bytes=1 << 24, processes=2)
    """What a rewarded program may use (``expects = "tests"``)."""
    kl_coef: float = Field(ge=0)
    """Beta, charge per nat of KL to the SFT model (InstructGPT: 0.02, for its reward model's scale); with ``adaptive_kl`` the first one."""
    adaptive_kl: AdaptiveKLConfig | None = None
    """Moves the charge towards a target KL; absent: it is fixed, as InstructGPT's."""

    @model_validator(mode="after")
    def _learns(self) -> RewardedConfig:
        if self.adaptive_kl and not self.kl_coef:
            raise ValueError("adaptive_kl scales kl_coef, and kl_coef is 0: nothing would ever be charged")
        return self

    @property
    def is_scored(self) -> bool:
        """Whether the reward model's score counts for anything."""
        return self.reward_weight > 0

    @property
    def is_rewarded(self) -> bool:
        """Whether the reward model or a verified reward counts for anything."""
        return self.is_scored or any(reward.weight for reward in self.rewards.values())

    @property
    def runs_programs(self) -> bool:
        """Whether a reward runs what the policy writes."""
        return any(reward.expects == "tests" for reward in self.rewards.values())


class PPOConfig(RewardedConfig):
    """PPO-ptx: advantages by a critic, KL charged in the reward (InstructGPT, arXiv:2203.02155)."""

    algorithm: Literal["ppo"]
    """Clipped policy gradient with a critic and, where ``ptx_coef`` is not 0, pretraining text."""
    gae_lambda: float = Field(ge=0, le=1)
    """Lambda of GAE (not published for InstructGPT)."""
    value_clip_range: float = Field(gt=0)
    """How far from its old value a value may move within an iteration (InstructGPT: 0.2)."""
    value_optimizer: OptimizerConfig
    """AdamW of the value model (InstructGPT: 9e-6)."""


class GroupConfig(RewardedConfig):
    """Several completions of a prompt, whose rewards are each other's baseline; there is no critic."""

    group: int = Field(ge=2)
    """Completions of a prompt (DeepSeekMath: 64; RLOO: 2 to 4)."""

    @model_validator(mode="after")
    def _whole_groups(self) -> GroupConfig:
        if self.episodes % self.group:
            raise ValueError(f"episodes {self.episodes} is not divisible by group {self.group}")
        return self

    @property
    def prompts(self) -> int:
        """Prompts of an iteration."""
        return self.episodes // self.group

    @property
    def undivided(self) -> int:
        """As many of a prompt's completions as divide a minibatch: all, where whole prompts make one."""
        return math.gcd(self.group, self.minibatch)


class GRPOConfig(GroupConfig):
    """GRPO (arXiv:2402.03300) with the normalisations of Dr. GRPO (arXiv:2503.20783) and DAPO (arXiv:2503.14476) as options."""

    algorithm: Literal["grpo"]
    """Advantages relative to a group of completions."""
    scale: Literal["group", "batch", "none"]
    """What a reward's distance from its group's mean is divided by: the group's standard deviation (GRPO, DAPO), that of all episodes, or
    nothing (Dr. GRPO)."""
    mean: Literal["sequence", "token", "longest"]
    """Over what losses of tokens are averaged: each completion and then all of them (GRPO), all tokens alike (DAPO), or completions as if each
    were ``max_new_tokens`` long (Dr. GRPO), so that a long wrong answer costs no less a token than a short one."""
    clip_range_high: float | None = Field(default=None, gt=0)
    """Clip above 1 where it is wider than ``clip_range`` below (DAPO: 0.28); absent: the same."""

    @property
    def one_update(self) -> bool:
        """The KL is charged in the loss; a server's samples want their importance weights first."""
        return self.minibatches == 1 and self.rollouts.backend == "own"

    @model_validator(mode="after")
    def _wider(self) -> GRPOConfig:
        if self.clip_range_high is not None and self.clip_range_high < self.clip_range:
            raise ValueError(f"clip_range_high {self.clip_range_high} is less than clip_range {self.clip_range}")
        return self


class RLOOConfig(GroupConfig):
    """REINFORCE leave-one-out (arXiv:2402.14740): the baseline is the mean reward of the prompt's other completions, KL charged in the reward."""

    algorithm: Literal["rloo"]
    """Advantages relative to the others of a group."""


class TokenTeacherConfig(TeacherConfig):
    """The model that says how likely every sampled token is to it: one on this machine, since its probabilities of given tokens are wanted."""

    kind: Literal["directory"]
    """A model directory of ours or of Hugging Face, whose tokenizer has the line's vocabulary."""


class OPDConfig(OnPolicyConfig):
    """On-policy distillation (GKD, arXiv:2306.13649, on the student's own samples by the reverse KL; Thinking Machines, "On-Policy Distillation").

    The teacher is all that is learned from: there is no reward, no charge for the distance from the SFT model and no group of completions.
    """

    algorithm: Literal["opd"]
    """Advantages of log p_teacher - log pi, a token by itself."""
    teacher: TokenTeacherConfig
    """Whom it learns from."""
