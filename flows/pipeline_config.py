"""The whole line's config: every stage's own config side by side, and the checks that no stage can make alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from modelyard.evals.suites import EvalsConfig
from pydantic import Field, model_validator

from modelyard.config import Config, load_config
from modelyard.data.contamination.overlap import ContaminationConfig
from modelyard.data.corpus import CorpusConfig
from modelyard.data.feedback.gather import FeedbackConfig
from modelyard.data.tokens import TokensConfig
from modelyard.execution import ExecutionConfig
from modelyard.posttrain.judged.ai_feedback import AIFeedbackConfig
from modelyard.posttrain.judged.rbrm import RBRMConfig
from modelyard.posttrain.ppo.config import PPOConfig
from modelyard.posttrain.reward import RewardConfig
from modelyard.posttrain.sft import SFTConfig
from modelyard.pretrain.pretrain import PretrainConfig
from modelyard.release.limits import ReleaseConfig
from modelyard.scaling.ladder import LadderConfig, ScalingConfig


class PipelineConfig(Config):
    """What the line builds. Each table is a stage; ``execution`` says where it runs and changes no artifact."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the line: its MLflow experiment and its registered model."""
    corpus: CorpusConfig
    """Sources, filters, splits."""
    feedback: FeedbackConfig
    """Demonstrations, comparisons and prompts."""
    tokens: TokensConfig
    """Tokenizer and packing."""
    contamination: ContaminationConfig
    """The check of every training set against every benchmark."""
    scaling: LadderConfig
    """Small runs that forecast the main one."""
    pretrain: PretrainConfig
    """The main run."""
    sft: SFTConfig
    """Supervised fine-tuning."""
    reward: RewardConfig
    """Reward model."""
    scorer: RewardConfig
    """The judge of the win rate, on other raters and items than the reward model's."""
    ai_feedback: AIFeedbackConfig | None = None
    """Comparisons that a model makes for the reward model; absent: people's alone."""
    rbrm: RBRMConfig | None = None
    """Rule-based rewards of PPO; absent: the reward model's alone."""
    ppo: PPOConfig
    """Policy optimisation."""
    evals: EvalsConfig
    """Benchmarks and how they are run."""
    release: ReleaseConfig
    """Thresholds of the gates."""
    execution: ExecutionConfig = ExecutionConfig()
    """Where and how it runs."""

    @model_validator(mode="after")
    def _fits_together(self) -> PipelineConfig:
        model = self.pretrain.model
        execution = self.execution
        model.check_layout(execution.tensor_parallel, execution.pipeline_parallel, execution.expert_parallel)
        agree("tokens.seq_len", self.tokens.seq_len, "pretrain.model.seq_len", model.seq_len)
        agree("tokens.vocab_size", self.tokens.vocab_size, "pretrain.model.vocab_size", model.vocab_size)
        _ = self.ladder
        if (self.evals.conduct is None) != (self.release.conduct is None):
            raise ValueError(
                "evals.conduct and release.conduct: both or neither, since what is measured is judged and what is judged is measured"
            )
        if self.reward.split != "reward" or self.scorer.split != "scorer":
            raise ValueError(
                "reward.split must be 'reward' and scorer.split 'scorer': the judge must not have seen what PPO is rewarded by"
            )
        if self.ppo.max_new_tokens >= model.seq_len:
            raise ValueError(f"ppo.max_new_tokens {self.ppo.max_new_tokens} leaves no room for a prompt in seq_len {model.seq_len}")
        for key in ("human_eval_tokens", "opening_tokens", "last_word_tokens"):
            if getattr(self.evals, key) + 2 > model.seq_len:
                raise ValueError(f"evals.{key} {getattr(self.evals, key)} leaves no room for a prompt in seq_len {model.seq_len}")
        self._check_batches()
        return self

    def _check_batches(self) -> None:
        """Every batch must split over the replicas into whole micro-batches."""
        stages = {key: getattr(self, key) for key in ("pretrain", "sft", "reward", "scorer")}
        batches = {f"{key}.batch": (stage.batch, stage.micro_batch) for key, stage in stages.items()}
        batches["ppo.episodes / ppo.minibatches"] = (self.ppo.minibatch, self.ppo.micro_batch)
        batches["ppo.ptx_rows"] = (self.ppo.ptx_rows, self.ppo.micro_batch)
        for key, (batch, micro_batch) in batches.items():
            if batch % (micro_batch * self.execution.data_parallel):
                raise ValueError(
                    f"{key} {batch} is not divisible by micro_batch {micro_batch} x execution.data_parallel {self.execution.data_parallel}"
                )

    @property
    def ladder(self) -> ScalingConfig:
        """The ladder with the main run it forecasts."""
        return ScalingConfig(**dict(self.scaling), main=self.pretrain)

    @property
    def ladder_execution(self) -> ExecutionConfig:
        """One rank: the ladder's models are too small to be split."""
        return self.execution.model_copy(update={"tensor_parallel": 1, "pipeline_parallel": 1, "data_parallel": 1, "expert_parallel": 1})


class ConfigFile(Config):
    """A config by its file, as deployments name it."""

    file: str
    """Path from the project's root, such as ``configs/pipeline/tiny.toml``."""
    overrides: tuple[str, ...] = ()
    """``KEY=VALUE`` with dotted keys, such as ``ppo.kl_coef=0.05``."""

    @property
    def name(self) -> str:
        """What the run is called until the file is read."""
        return PurePath(self.file).stem


def resolve(config: PipelineConfig | ConfigFile) -> PipelineConfig:
    """The config itself, read from its file where it is one. Raises ConfigError."""
    return load_pipeline(config.file, config.overrides) if isinstance(config, ConfigFile) else config


def load_pipeline(file: str, overrides: Sequence[str]) -> PipelineConfig:
    """Read a pipeline's TOML file. Raises ConfigError with one line naming file and key."""
    return load_config(PipelineConfig, file, overrides)


def agree(left: str, one: int, right: str, other: int) -> None:
    """Raise ValueError unless both are equal."""
    if one != other:
        raise ValueError(f"{left} is {one}, but {right} is {other}")
