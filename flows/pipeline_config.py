"""The whole line's config: every stage's own config side by side, and the checks that no stage can make alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Annotated, Any, get_args

from pydantic import Discriminator, Field, Tag, model_validator

from modelyard.config import Config, ConfigError, load_config, read_tree
from modelyard.data.contamination.overlap import ContaminationConfig
from modelyard.data.corpus.config import CorpusConfig
from modelyard.data.corpus.document import Kind
from modelyard.data.corpus.held_out import HeldOutConfig
from modelyard.data.feedback.config import FeedbackConfig
from modelyard.data.harms.gather import HarmLabelsConfig
from modelyard.data.instructions.config import InstructionsConfig, TaughtConfig
from modelyard.data.tokens.token_files import BaseTokensConfig, CleanTokensConfig, TokensConfig
from modelyard.evals.gather import GatherConfig
from modelyard.evals.sets import SetsConfig
from modelyard.evals.suite import EvalsConfig
from modelyard.execution import ExecutionConfig
from modelyard.posttrain.content_classifier.features import FeaturesConfig
from modelyard.posttrain.content_classifier.train import ContentClassifierConfig
from modelyard.posttrain.feedme import FeedMEConfig
from modelyard.posttrain.judged.ai_feedback import AIFeedbackConfig
from modelyard.posttrain.judged.rbrm import RBRMConfig
from modelyard.posttrain.policy.config import GRPOConfig, PPOConfig, RLOOConfig
from modelyard.posttrain.preference.config import DPOConfig, IPOConfig, KTOConfig, KWiseDPOConfig, PreferenceConfig
from modelyard.posttrain.reward import RewardConfig
from modelyard.posttrain.selection import SelectionConfig
from modelyard.posttrain.sft import SFTConfig
from modelyard.pretrain.continued import ContinueConfig
from modelyard.pretrain.import_model import ImportConfig
from modelyard.pretrain.pretrain import PretrainConfig
from modelyard.printable import printable
from modelyard.release.export import ExportConfig
from modelyard.release.limits import OF_BASE, ReleaseConfig
from modelyard.scaling.ladder import LadderConfig, ScalingConfig


def _tokenizer(tokens: Any) -> str:
    """Whose tokenizer a ``tokens`` table asks for."""
    return str(tokens.get("tokenizer", "trained") if isinstance(tokens, dict) else getattr(tokens, "tokenizer", ""))


Base = Annotated[PretrainConfig | ImportConfig | ContinueConfig, Field(discriminator="kind")]
Policy = Annotated[
    PPOConfig | GRPOConfig | RLOOConfig | DPOConfig | KWiseDPOConfig | IPOConfig | KTOConfig, Field(discriminator="algorithm")
]
Tokens = Annotated[Annotated[TokensConfig, Tag("trained")] | Annotated[BaseTokensConfig, Tag("base")], Discriminator(_tokenizer)]


class PipelineConfig(Config):
    """What the line builds. Each table is a stage; ``execution`` says where it runs and changes no artifact."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the line: its MLflow experiment and its registered model."""
    corpus: CorpusConfig
    """Sources, filters, held-out shares."""
    held_out: HeldOutConfig
    """What later stages take from the corpus beside its text."""
    feedback: FeedbackConfig
    """Demonstrations, comparisons and prompts."""
    tokens: Tokens
    """Tokenizer (trained here, or the base model's) and packing."""
    instructions: InstructionsConfig | None = None
    """Demonstrations that a stronger model writes, for ``sft`` and ``sft_start``; absent: people's alone."""
    contamination: ContaminationConfig
    """The check of every training set against every benchmark."""
    forecast: LadderConfig | None = None
    """Small runs that forecast the pretraining run; absent where the base is imported."""
    base: Base
    """The base model: ``kind`` "pretrain" (from random weights), "import" (of others) or "continue" (of others, trained further)."""
    no_contam: bool = False
    """Whether a twin of the base model is trained as well, on the corpus without the documents that hold a benchmark item; results show both
    side by side, and ``release.max_contamination_gain`` limits what the base may be ahead."""
    sft: SFTConfig
    """Supervised fine-tuning: the model that the policy is compared with, and where it starts from unless there is an ``sft_start``."""
    harm_labels: HarmLabelsConfig | None = None
    """People's labels of harmful text, from which the content classifier learns; absent: the server's filter is the corpus's abuse model."""
    harm_features: FeaturesConfig = FeaturesConfig()
    """What the content classifier reads of the line's decoder; only with ``harm_labels``."""
    content_classifier: ContentClassifierConfig | None = None
    """The classifier that guards the released model's input and output."""
    ai_feedback: AIFeedbackConfig | None = None
    """Comparisons that a model makes for the reward model; absent: people's alone."""
    reward: RewardConfig
    """Reward model."""
    gold: RewardConfig
    """The gold reward model, which judges the win rate: of other raters and items than the reward model."""
    selection: SelectionConfig | None = None
    """Choice among the epochs of SFT by reward-model score; the chosen one is what the policy is compared with. Absent: the last epoch."""
    feedme: FeedMEConfig | None = None
    """Demonstrations of the SFT model's own best answers, for ``sft_start``. Absent: people's."""
    sft_start: SFTConfig | None = None
    """A second SFT from the base model, from which the policy starts (InstructGPT: 2 epochs, 10% pretraining text). Absent: it starts from
    the model that it is compared with."""
    start_selection: SelectionConfig | None = None
    """The same choice among the epochs of ``sft_start`` (FeedME trains several). Absent: its last epoch."""
    rbrm: RBRMConfig | None = None
    """Rule-based rewards of a policy that samples; absent: the reward model's alone."""
    policy: Policy
    """Policy optimisation: ``algorithm`` "ppo", "grpo" or "rloo" (from samples), "dpo", "kwise_dpo", "ipo" or "kto" (from comparisons)."""
    evals: EvalsConfig
    """Benchmarks and how they are run."""
    release: ReleaseConfig
    """Thresholds of the gates."""
    execution: ExecutionConfig = ExecutionConfig()
    """Where and how it runs."""

    @model_validator(mode="after")
    def _fits_together(self) -> PipelineConfig:
        if isinstance(self.base, PretrainConfig):
            self._check_pretraining(self.base)
        else:
            self._check_imported(self.base)
        self._check_lengths()
        self._check_data()
        self._check_classifier()
        self.release.require_measured(self.evals.names)
        if self.no_contam and isinstance(self.base, ImportConfig):
            raise ValueError("no_contam: there is no twin of a model that others trained; base.kind must be 'pretrain' or 'continue'")
        if self.reward.split != "reward" or self.gold.split != "gold":
            raise ValueError(
                "reward.split must be 'reward' and gold.split 'gold': the judge must not have seen what the policy is rewarded by"
            )
        if self.feedback.votes is None and self.feedback.splits.gold == 0:
            raise ValueError("feedback.splits.gold: 0 leaves the gold reward model no comparisons")
        if self.selection and not self.sft.keep_epochs:
            raise ValueError("sft.keep_epochs must be true for selection to have something to choose from")
        if self.start_selection and not (self.sft_start and self.sft_start.keep_epochs):
            raise ValueError("sft_start.keep_epochs must be true for start_selection to have something to choose from")
        if self.feedme and not self.sft_start:
            raise ValueError("feedme makes demonstrations for sft_start, and there is no table sft_start")
        if self.rbrm and isinstance(self.policy, PreferenceConfig):
            raise ValueError(f"rbrm rewards samples, and policy.algorithm {self.policy.algorithm!r} takes none; remove the table")
        if self.instructions:
            self._check_instructions(self.instructions)
        self._check_batches()
        return self

    def _check_instructions(self, instructions: InstructionsConfig) -> None:
        """What a teacher writes can be told apart from people's, and is used."""
        names = ["corpus", *(file.name for file in self.feedback.files), *(task.name for task in self.feedback.tasks)]
        if instructions.teacher.name in names:
            raise ValueError(f"instructions.teacher.name {instructions.teacher.name!r} is the name of feedback of another source")
        if instructions.also_prompts and isinstance(self.policy, PreferenceConfig) and not self.feedme:
            raise ValueError(f"instructions.also_prompts: policy.algorithm {self.policy.algorithm!r} samples from no prompts")

    def _check_classifier(self) -> None:
        """A content classifier has labels, labels have a classifier, and where there is none a reason says why."""
        if (self.harm_labels is None) is not (self.content_classifier is None):
            missing, there = ("harm_labels", "content_classifier") if self.harm_labels is None else ("content_classifier", "harm_labels")
            raise ValueError(f"{missing}: missing; it belongs to the table {there}")
        if self.content_classifier is None and not self.release.set_aside.content_classifier:
            raise ValueError("release.set_aside.content_classifier: missing; the line has no content_classifier, so give the reason")
        known = self.harm_labels.categories if self.harm_labels else {}
        protected = self.content_classifier.protected if self.content_classifier else ()
        if unknown := [name for name in protected if name not in known]:
            raise ValueError(f"content_classifier.protected: {unknown[0]!r} is none of harm_labels.categories ({', '.join(known)})")

    def _check_data(self) -> None:
        """What names a source names one of the corpus."""
        sources = [source.name for source in self.corpus.sources]
        if unknown := [name for name in self.held_out.reviews if name not in sources]:
            raise ValueError(f"held_out.reviews: no source of the corpus is named {unknown[0]!r}")
        if unknown := [name for name in self.tokens.mixture if name not in (*sources, *get_args(Kind))]:
            raise ValueError(f"tokens.mixture.{unknown[0]}: no source of the corpus is named so, and it is no kind of document")

    def _check_pretraining(self, base: PretrainConfig) -> None:
        """Tokens and forecast are this model's own."""
        execution = self.execution
        base.model.check_layout(execution.tensor_parallel, execution.pipeline_parallel, execution.expert_parallel)
        if not isinstance(self.tokens, TokensConfig):
            raise ValueError("tokens.tokenizer 'base' is of an imported model, but base.kind is 'pretrain'")
        agree("tokens.seq_len", self.tokens.seq_len, "base.model.seq_len", base.model.seq_len)
        agree("tokens.vocab_size", self.tokens.vocab_size, "base.model.vocab_size", base.model.vocab_size)
        for key in ("sft", "sft_start", "reward", "gold", "policy"):
            if getattr(getattr(self, key), "lora", None):
                try:
                    base.model.check_adapters()
                except ValueError as error:
                    raise ValueError(f"{key}.{error}") from None
        if self.forecast is None:
            raise ValueError("forecast: missing; no pretraining run starts before its loss has been predicted")
        if aside := self.release.set_aside.of_base:
            raise ValueError(f"release.set_aside.{aside[0]}: applies to a pretrained base and cannot be set aside by the config")
        _ = self.ladder

    def _check_imported(self, base: ImportConfig | ContinueConfig) -> None:
        """What cannot apply to a model of others is set aside by name, with a reason, and nothing is configured that would be passed over."""
        if not isinstance(self.tokens, BaseTokensConfig):
            raise ValueError(f"tokens.tokenizer must be 'base' where base.kind is {base.kind!r}: an imported model keeps its own")
        if self.forecast is not None:
            raise ValueError(f"forecast: no loss can be forecast where base.kind is {base.kind!r}; remove the table")
        if missing := [name for name in OF_BASE if name not in self.release.set_aside.of_base]:
            raise ValueError(
                f"release.set_aside.{missing[0]}: missing; it cannot apply where base.kind is {base.kind!r}, so give the reason"
            )
        if self.tokens.seq_len > base.seq_len:
            raise ValueError(f"tokens.seq_len {self.tokens.seq_len} is more than base.seq_len {base.seq_len}")

    def _check_lengths(self) -> None:
        """Prompts, rows and completions fit in the model."""
        limit, where = self.base.seq_len, "base.model.seq_len" if isinstance(self.base, PretrainConfig) else "base.seq_len"
        for key in ("sft", "sft_start", "reward", "gold", "policy"):
            if (wanted := getattr(getattr(self, key), "max_tokens", None) or 0) > limit:
                raise ValueError(f"{key}.max_tokens {wanted} is more than {where} {limit}")
        for key in ("sft", "sft_start"):
            stage: SFTConfig | None = getattr(self, key)
            if stage and stage.pretraining_per_batch and self.tokens.seq_len < (width := stage.max_tokens or limit):
                raise ValueError(f"tokens.seq_len {self.tokens.seq_len} is less than the width of {key}'s rows {width}")
        if self.policy.max_new_tokens >= limit:
            raise ValueError(f"policy.max_new_tokens {self.policy.max_new_tokens} leaves no room for a prompt in seq_len {limit}")
        for one in self.evals.benchmarks:
            if (one.max_new_tokens or 0) + 2 > limit:
                raise ValueError(
                    f"evals.benchmarks.{one.name}.max_new_tokens {one.max_new_tokens} leaves no room for a prompt in seq_len {limit}"
                )

    def _check_batches(self) -> None:
        """Every batch must split over the replicas into whole micro-batches."""
        stages = {key: getattr(self, key) for key in ("base", "sft", "sft_start", "reward", "gold")}
        batches = {f"{key}.batch": (stage.batch, stage.micro_batch) for key, stage in stages.items() if hasattr(stage, "batch")}
        batches |= self.policy.batches
        replicas = self.execution.data_parallel
        for key, (batch, micro_batch) in batches.items():
            if batch % (micro_batch * replicas):
                raise ValueError(f"{key} {batch} is not divisible by micro_batch {micro_batch} x execution.data_parallel {replicas}")

    @property
    def ladder(self) -> ScalingConfig | None:
        """The ladder with the pretraining run that it forecasts; None where the base is imported."""
        if self.forecast is None or not isinstance(self.base, PretrainConfig):
            return None
        return ScalingConfig(**dict(self.forecast), main=self.base)

    @property
    def taught(self) -> TaughtConfig | None:
        """What a stronger model is asked for, with the line's rules about personal data and contamination; None where nobody is asked."""
        if self.instructions is None:
            return None
        return TaughtConfig(**dict(self.instructions), pii=self.feedback.pii, contamination=self.contamination)

    @property
    def clean_tokens(self) -> CleanTokensConfig | None:
        """The tokens of the twin that never saw a benchmark item: the line's own in every number; None where no twin is asked for."""
        shared = set(CleanTokensConfig.model_fields) - {"tokenizer"}
        return CleanTokensConfig(**{key: getattr(self.tokens, key) for key in shared}) if self.no_contam else None

    def of(self, stage: str) -> Config | None:
        """What defines the artifact of ``stage``; None where this line has no such stage."""
        match stage:
            case "forecast":
                return self.ladder
            case "instructions":
                return self.taught
            case "no_contam_tokens":
                return self.clean_tokens
            case "no_contam":
                return self.base if self.no_contam else None
            case "imported":
                return self.base.imported if isinstance(self.base, ContinueConfig) else self.base
            case "benchmarks":
                sets = {key: getattr(self.evals, key) for key in SetsConfig.model_fields}
                return GatherConfig(**sets, context=self.base.seq_len)
            case "reference":
                return self.policy.reference if isinstance(self.policy, PreferenceConfig) else None
            case "harm_features":
                return self.harm_features if self.harm_labels else None
            case "results" | "baseline":
                return self.evals
            case "export":
                return ExportConfig()
        found: Config | None = getattr(self, stage)
        return found


class ConfigFile(Config):
    """A config by its file, as deployments name it."""

    file: str
    """Path from the project's root, such as ``configs/pipeline/tiny.toml``."""
    overrides: tuple[str, ...] = ()
    """``KEY=VALUE`` with dotted keys, such as ``policy.kl_coef=0.05``."""

    @property
    def name(self) -> str:
        """What the run is called until the file is read."""
        return PurePath(self.file).stem


def resolve(config: PipelineConfig | ConfigFile) -> PipelineConfig:
    """The config itself, read from its file where it is one. Raises ConfigError."""
    return load_pipeline(config.file, config.overrides) if isinstance(config, ConfigFile) else config


OTHER_FILES = "a suite of benchmarks is for modelyard eval --suite, a shape of a model for modelyard plan"


def load_pipeline(file: str, overrides: Sequence[str]) -> PipelineConfig:
    """Read a pipeline's TOML file. Raises ConfigError with one line naming file and key."""
    found = read_tree(Path(file))
    if not found.keys() & {"corpus", "feedback", "base", "policy", "release"}:
        there = ", ".join(map(printable, found)) or "nothing"
        raise ConfigError(f"{file}: not a pipeline: there is no [corpus], [base], [policy] or [release], but {there}; {OTHER_FILES}")
    return load_config(PipelineConfig, file, overrides)


def agree(left: str, one: int, right: str, other: int) -> None:
    """Raise ValueError unless both are equal."""
    if one != other:
        raise ValueError(f"{left} is {one}, but {right} is {other}")
