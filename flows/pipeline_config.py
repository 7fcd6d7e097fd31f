"""The whole line's config: every stage's own config side by side, and the checks that no stage can make alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag, WithJsonSchema, model_validator

from flows.pipeline_checks import check_fit, check_shape
from modelyard.config import Config, ConfigError, load_config, read_tree
from modelyard.data.contamination.overlap import ContaminationConfig
from modelyard.data.corpus.config import CorpusConfig
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
from modelyard.posttrain.policy.config import GRPOConfig, OPDConfig, PPOConfig, RLOOConfig
from modelyard.posttrain.preference.config import DPOConfig, IPOConfig, KTOConfig, KWiseDPOConfig, PreferenceConfig
from modelyard.posttrain.projector import ProjectorConfig
from modelyard.posttrain.reward import RewardConfig
from modelyard.posttrain.selection import SelectionConfig
from modelyard.posttrain.sft import SFTConfig
from modelyard.pretrain.continued import ContinueConfig
from modelyard.pretrain.import_model import ImportConfig
from modelyard.pretrain.pretrain import PretrainConfig
from modelyard.printable import printable
from modelyard.release.export import ExportConfig
from modelyard.release.limits import ReleaseConfig
from modelyard.scaling.ladder import AskedScalingConfig, LadderConfig, ScalingConfig


def _tokenizer(tokens: Any) -> str:
    """Whose tokenizer a ``tokens`` table asks for."""
    return str(tokens.get("tokenizer", "trained") if isinstance(tokens, dict) else getattr(tokens, "tokenizer", ""))


Base = Annotated[PretrainConfig | ImportConfig | ContinueConfig, Field(discriminator="kind")]
Policy = Annotated[
    PPOConfig | GRPOConfig | RLOOConfig | OPDConfig | DPOConfig | KWiseDPOConfig | IPOConfig | KTOConfig, Field(discriminator="algorithm")
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
    projector: ProjectorConfig | None = None
    """What shows the base model images: patch encoder and projector, trained before ``sft``. Absent: it reads text only, or brings its own.
    With it a twin is trained that never saw an image (``no_vision``), and the gate ``vision`` holds the release against it."""
    no_vision: bool = False
    """Whether that twin is trained for a base model that brings its own patch encoder; with ``projector`` it always is."""
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
    reward: RewardConfig | None = None
    """Reward model; absent in a line with neither policy nor FeedME."""
    gold: RewardConfig | None = None
    """The gold reward model, which judges the win rate: of other raters and items than the reward model. Absent where ``reward`` is."""
    selection: SelectionConfig | None = None
    """Choice among the epochs of SFT by reward-model score; the chosen one is what the policy is compared with. Absent: the last epoch."""
    feedme: FeedMEConfig | None = None
    """Demonstrations of the SFT model's own best answers, for ``sft_start``. Absent: people's."""
    sft_start: SFTConfig | None = None
    """A second SFT from the base model, from which the policy starts (InstructGPT: 2 epochs, 10% pretraining text) and with which a line of
    FeedME may end (GPT-Fathom's text-davinci-001 and -002). Absent: the policy starts from the model that it is compared with."""
    start_selection: SelectionConfig | None = None
    """The same choice among the epochs of ``sft_start`` (FeedME trains several). Absent: its last epoch."""
    rbrm: RBRMConfig | None = None
    """Rule-based rewards of a policy that samples; absent: the reward model's alone."""
    policy: Policy | None = None
    """Policy optimisation: ``algorithm`` "ppo", "grpo", "rloo" or "opd" (from samples), "dpo", "kwise_dpo", "ipo" or "kto" (from comparisons).
    Absent: FeedME's SFT model is released, or the SFT model, and then ``release.set_aside.preference`` says why."""
    evals: EvalsConfig
    """Benchmarks and how they are run."""
    release: ReleaseConfig
    """Thresholds of the gates."""
    execution: ExecutionConfig = ExecutionConfig()
    """Where and how it runs."""

    @model_validator(mode="after")
    def _fits_together(self) -> PipelineConfig:
        check_fit(self)
        return self

    @property
    def ladder(self) -> ScalingConfig | None:
        """The ladder with the pretraining run that it forecasts; None where the base is imported."""
        if self.forecast is None or not isinstance(self.base, PretrainConfig):
            return None
        kind = AskedScalingConfig if self.forecast.benchmarks else ScalingConfig
        return kind(**dict(self.forecast), main=self.base)

    @property
    def gathered(self) -> GatherConfig:
        """The benchmarks."""
        return GatherConfig(**{key: getattr(self.evals, key) for key in SetsConfig.model_fields}, context=self.base.seq_len)

    @property
    def asked_of_ladder(self) -> GatherConfig | None:
        """Those that the ladder's runs are asked too, apart from the others, so that a further benchmark trains nothing again. None: none."""
        if self.ladder is None or not self.ladder.benchmarks:
            return None
        named = dict(zip(self.evals.names, self.evals.benchmarks, strict=True))
        return self.gathered.model_copy(update={"benchmarks": tuple(named[name] for name in self.ladder.benchmarks)})

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

    @property
    def sees(self) -> bool:
        """Whether the line's models are shown images."""
        return self.projector is not None or self.no_vision

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
            case "no_vision_projector":
                return self.projector.model_copy(update={"blank": True}) if self.projector else None
            case "no_vision":
                return self.sft.model_copy(update={"blank": True}) if self.sees else None
            case "imported":
                return self.base.imported if isinstance(self.base, ContinueConfig) else self.base
            case "benchmarks":
                return self.gathered
            case "continuations":
                return self.asked_of_ladder
            case "reference":
                return self.policy.reference if isinstance(self.policy, PreferenceConfig) else None
            case "harm_features":
                return self.harm_features if self.harm_labels else None
            case "before":
                return self.evals if self.policy or self.sft_start else None
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


Given = Annotated[PipelineConfig, WithJsonSchema({"title": "PipelineConfig", "type": "object"})] | ConfigFile
"""What a flow is given: the line, or its file with overrides. The form in Prefect's UI shows a whole line as one object, whose keys
``modelyard schema`` explains: their own schema would be made anew for every flow at each start."""


def resolve(config: Given) -> PipelineConfig:
    """The config itself, read from its file where it is one. Raises ConfigError."""
    return load_pipeline(config.file, config.overrides) if isinstance(config, ConfigFile) else config


OTHER_FILES = "a suite of benchmarks is for modelyard eval --suite, a shape of a model for modelyard plan"


def load_pipeline(file: str, overrides: Sequence[str]) -> PipelineConfig:
    """Read a pipeline's TOML file, and the shape of a base model of others. Raises ConfigError with one line naming file and key."""
    found = read_tree(Path(file))
    if not found.keys() & {"corpus", "feedback", "base", "policy", "release"}:
        there = ", ".join(map(printable, found)) or "nothing"
        raise ConfigError(f"{file}: not a pipeline: there is no [corpus], [base], [policy] or [release], but {there}; {OTHER_FILES}")
    config = load_config(PipelineConfig, file, overrides)
    try:
        check_shape(config)
    except ValueError as error:
        raise ConfigError(f"{file}: {error}") from None
    return config
