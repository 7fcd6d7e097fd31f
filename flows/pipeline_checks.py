"""Whether the tables of a line fit together: what a stage names is there, what it is given it can take, and batches split over the replicas."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from flows.alignment_checks import check_alignment, check_comparisons_fit, check_policy
from flows.prompt_checks import check_prompts
from modelyard.closest import did_you_mean
from modelyard.data.corpus.document import Kind
from modelyard.data.tokens.token_files import BaseTokensConfig, TokensConfig
from modelyard.model.hf.families import family_of
from modelyard.posttrain.preference.config import PreferenceConfig
from modelyard.posttrain.sft import SFTConfig
from modelyard.pretrain.continued import ContinueConfig
from modelyard.pretrain.import_model import ImportConfig
from modelyard.pretrain.pretrain import PretrainConfig
from modelyard.release.limits import OF_BASE
from tasks.line_config import ALONE

if TYPE_CHECKING:
    from flows.pipeline_config import PipelineConfig


def check_fit(config: PipelineConfig) -> None:
    """Raise ValueError naming the key that does not fit."""
    if isinstance(config.base, PretrainConfig):
        check_pretraining(config, config.base)
    else:
        check_imported(config, config.base)
    check_lengths(config)
    check_data(config)
    check_classifier(config)
    check_policy(config)
    check_vision(config)
    check_transformer_engine(config)
    config.release.require_measured(config.evals.names)
    if config.no_contam and isinstance(config.base, ImportConfig):
        raise ValueError("no_contam: there is no twin of a model that others trained; base.kind must be 'pretrain' or 'continue'")
    check_alignment(config)
    check_batches(config)
    check_comparisons_fit(config)
    check_prompts(config)


def check_vision(config: PipelineConfig) -> None:
    """What is shown images is measured on some beside a twin that never saw one, and nothing is asked about images that sees none."""
    asked = [one.name for one in config.evals.benchmarks if one.of_images]
    if config.sees and not asked:
        raise ValueError("evals.benchmarks: none has images, and the release is held to what it sees; name one, such as easy_vqa")
    if asked and not config.sees:
        raise ValueError(f"evals.benchmarks.{asked[0]}: asks about images, and the line has no projector that shows its models any")
    if config.sees and config.execution.context_parallel > 1:
        raise ValueError(
            f"execution.context_parallel {config.execution.context_parallel} is for rows of text; this line's models are shown images"
        )
    for key in ("projector", "sft"):
        if getattr(getattr(config, key), "blank", False):
            raise ValueError(f"{key}.blank: the line trains its blank twin itself; remove the key")


def check_transformer_engine(config: PipelineConfig) -> None:
    """What is trained on Transformer Engine's layers has none of what stands on ours: adapters, images, samples; in fp8 it is trained in bf16."""
    execution = config.execution
    if not execution.transformer_engine:
        return
    if config.sees:
        raise ValueError("execution.transformer_engine is for models of text; this line's are shown images")
    if config.policy and not isinstance(config.policy, PreferenceConfig):
        raise ValueError(
            f"execution.transformer_engine: policy.algorithm {config.policy.algorithm!r} samples from the model that it trains, and those layers "
            "only train; set it to false"
        )
    for key in ("base", "sft", "sft_start", "reward", "gold", "policy"):
        table = getattr(config, key)
        if isinstance(table, ImportConfig):
            continue  # which nobody trains
        if getattr(table, "lora", None):
            raise ValueError(f"execution.transformer_engine: adapters ({key}.lora) stand on our own layers; set it to false")
        if execution.fp8 and getattr(table, "precision", "bf16") != "bf16":
            raise ValueError(f"execution.fp8 {execution.fp8!r} rounds products of bf16, and {key}.precision is {table.precision!r}")
    for recipe in config.ladder.recipes if config.ladder else ():
        try:
            recipe.model.check_execution(execution.model_copy(update=ALONE))
        except ValueError as error:
            raise ValueError(f"forecast.rungs: {error}") from None


def check_classifier(config: PipelineConfig) -> None:
    """A content classifier has labels, labels have a classifier, and where there is none a reason says why."""
    if (config.harm_labels is None) is not (config.content_classifier is None):
        missing, there = ("harm_labels", "content_classifier") if config.harm_labels is None else ("content_classifier", "harm_labels")
        raise ValueError(f"{missing}: missing; it belongs to the table {there}")
    if config.content_classifier is None and not config.release.set_aside.content_classifier:
        raise ValueError("release.set_aside.content_classifier: missing; the line has no content_classifier, so give the reason")
    known = config.harm_labels.categories if config.harm_labels else {}
    protected = config.content_classifier.protected if config.content_classifier else ()
    if unknown := [name for name in protected if name not in known]:
        named = f"{unknown[0]!r} is none of harm_labels.categories ({', '.join(known)}){did_you_mean(unknown[0], known)}"
        raise ValueError(f"content_classifier.protected: {named}")
    check_held_out_labels(config)


def check_held_out_labels(config: PipelineConfig) -> None:
    """No text that the content classifier is measured on trains the abuse filter: both halve a file of labels by the same hash."""
    abuse, harms = config.corpus.filters.abuse, config.harm_labels
    files = [file.sha256 for file in harms.files] if harms else []
    if harms is None or abuse.labels is None or abuse.labels.sha256 not in files:
        return
    same = "corpus.filters.abuse.labels: is a file of harm_labels too, half of which the content classifier is measured on"
    if not abuse.held_out:
        raise ValueError(f"{same}; set corpus.filters.abuse.held_out = true")
    if files[0] != abuse.labels.sha256:
        raise ValueError(f"{same}; name it first there, so that both have the same half")
    if harms.test_share > 0.5:
        raise ValueError(f"{same}; harm_labels.test_share {harms.test_share} is more than the half that the filter leaves out")


def check_data(config: PipelineConfig) -> None:
    """What names a source names one of the corpus."""
    sources = [source.name for source in config.corpus.sources]
    if unknown := [name for name in config.held_out.reviews if name not in sources]:
        raise ValueError(f"held_out.reviews: no source of the corpus is named {unknown[0]!r}{did_you_mean(unknown[0], sources)}")
    if unknown := [name for name in config.tokens.mixture if name not in (*sources, *get_args(Kind))]:
        raise ValueError(f"tokens.mixture.{unknown[0]}: no source of the corpus is named so, and it is no kind of document")


def check_pretraining(config: PipelineConfig, base: PretrainConfig) -> None:
    """Tokens and forecast are this model's own."""
    base.model.check_execution(config.execution)
    if not isinstance(config.tokens, TokensConfig):
        raise ValueError("tokens.tokenizer 'base' is of an imported model, but base.kind is 'pretrain'")
    agree("tokens.seq_len", config.tokens.seq_len, "base.model.seq_len", base.model.seq_len)
    agree("tokens.vocab_size", config.tokens.vocab_size, "base.model.vocab_size", base.model.vocab_size)
    for key in ("sft", "sft_start", "reward", "gold", "policy"):
        if getattr(getattr(config, key), "lora", None):
            try:
                base.model.check_adapters()
            except ValueError as error:
                raise ValueError(f"{key}.{error}") from None
    if config.forecast is None:
        raise ValueError("forecast: missing; no pretraining run starts before its loss has been predicted")
    if unknown := [name for name in config.forecast.benchmarks if name not in config.evals.names]:
        known = ", ".join(config.evals.names)
        named = f"{unknown[0]!r} is none of evals.benchmarks ({known}){did_you_mean(unknown[0], config.evals.names)}"
        raise ValueError(f"forecast.benchmarks: {named}")
    if aside := config.release.set_aside.of_base:
        raise ValueError(f"release.set_aside.{aside[0]}: applies to a pretrained base and cannot be set aside by the config")
    try:
        family_of(base.model)
    except ValueError as error:
        raise ValueError(f"base.model: a line ends with its export, and {error}") from None
    _ = config.ladder


def check_shape(config: PipelineConfig) -> None:
    """Raise ValueError where the layout does not divide a base model of others, as far as its files are at hand; one rank divides every model.

    A pretrained base says its shape itself (:func:`check_pretraining`).
    """
    execution = config.execution
    if isinstance(config.base, PretrainConfig) or (execution.world_size == 1 and not execution.transformer_engine):
        return
    from tasks.stage_memory import base_model  # brings the stages with it, which a config alone does without

    if model := base_model(config):
        try:
            model.check_execution(execution)
        except ValueError as error:
            raise ValueError(f"base.path: {config.base.path}: {error}") from None


def check_imported(config: PipelineConfig, base: ImportConfig | ContinueConfig) -> None:
    """What cannot apply to a model of others is set aside by name, with a reason, and nothing is configured that would be passed over."""
    if not isinstance(config.tokens, BaseTokensConfig):
        raise ValueError(f"tokens.tokenizer must be 'base' where base.kind is {base.kind!r}: an imported model keeps its own")
    if config.forecast is not None:
        raise ValueError(f"forecast: no loss can be forecast where base.kind is {base.kind!r}; remove the table")
    if missing := [name for name in OF_BASE if name not in config.release.set_aside.of_base]:
        raise ValueError(f"release.set_aside.{missing[0]}: missing; it cannot apply where base.kind is {base.kind!r}, so give the reason")
    if config.tokens.seq_len > base.seq_len:
        raise ValueError(f"tokens.seq_len {config.tokens.seq_len} is more than base.seq_len {base.seq_len}")


def check_lengths(config: PipelineConfig) -> None:
    """Rows, and completions of benchmarks, fit in the model."""
    limit, where = config.base.seq_len, "base.model.seq_len" if isinstance(config.base, PretrainConfig) else "base.seq_len"
    for key in ("sft", "sft_start", "reward", "gold", "policy"):
        if (wanted := getattr(getattr(config, key), "max_tokens", None) or 0) > limit:
            raise ValueError(f"{key}.max_tokens {wanted} is more than {where} {limit}")
    for key in ("sft", "sft_start"):
        stage: SFTConfig | None = getattr(config, key)
        if stage and stage.pretraining_per_batch and config.tokens.seq_len < (width := stage.max_tokens or limit):
            raise ValueError(f"tokens.seq_len {config.tokens.seq_len} is less than the width of {key}'s rows {width}")
    for one in config.evals.benchmarks:
        if (one.max_new_tokens or 0) + 2 > limit:
            raise ValueError(
                f"evals.benchmarks.{one.name}.max_new_tokens {one.max_new_tokens} leaves no room for a prompt in seq_len {limit}"
            )


def check_batches(config: PipelineConfig) -> None:
    """Every batch must split over the replicas into whole micro-batches."""
    stages = {key: getattr(config, key) for key in ("base", "projector", "sft", "sft_start", "reward", "gold")}
    batches = {f"{key}.batch": (stage.batch, stage.micro_batch) for key, stage in stages.items() if hasattr(stage, "batch")}
    batches |= config.policy.batches if config.policy else {}
    replicas, ranks = config.execution.data_parallel, config.execution.pipeline_parallel
    for key, (batch, micro_batch) in batches.items():
        if batch % (micro_batch * replicas):
            raise ValueError(f"{key} {batch} is not divisible by micro_batch {micro_batch} x execution.data_parallel {replicas}")
        if config.execution.virtual_pipeline > 1 and batch // (micro_batch * replicas) < ranks:
            raise ValueError(
                f"{key} {batch} makes fewer micro-batches of {micro_batch} on each of {replicas} replicas than execution.pipeline_parallel "
                f"{ranks}; execution.virtual_pipeline needs as many"
            )


def agree(left: str, one: int, right: str, other: int) -> None:
    """Raise ValueError unless both are equal."""
    if one != other:
        raise ValueError(f"{left} is {one}, but {right} is {other}")
